#include "weights/pickle.h"

#include "weight_files.h"

namespace flashvsr::weights {
namespace {

bool allow(std::string_view module, std::string_view name) {
  return module == "collections" ? name == "OrderedDict" : module == "good";
}

PickleGraph parse(const std::string& bytes) { return parse_pickle(std::as_bytes(std::span(bytes)), "file", allow); }

void expect_refused(const std::string& bytes, const std::vector<std::string>& parts) {
  std::vector<std::string> all{"file: "};
  all.insert(all.end(), parts.begin(), parts.end());
  expect_error([&] { parse(bytes); }, ErrorCode::format, all);
}

std::int64_t integer_of(const std::string& body) {
  const std::string bytes = pickle(body);
  const PickleGraph graph = parse(bytes);
  EXPECT_EQ(graph[graph.root].kind, PickleKind::integer);
  return graph[graph.root].integer;
}

TEST(Pickle, ReadsIntegers) {
  EXPECT_EQ(integer_of(std::string("K\xff")), 255);
  EXPECT_EQ(integer_of(std::string("M\xff\xff")), 65535);
  EXPECT_EQ(integer_of(std::string("J\xfe\xff\xff\xff")), -2);
  EXPECT_EQ(integer_of(std::string("\x8a\x00", 2)), 0);
  EXPECT_EQ(integer_of(std::string("\x8a\x01\xff")), -1);
  EXPECT_EQ(integer_of(std::string("\x8a\x02\xff\x00", 4)), 255);
  EXPECT_EQ(integer_of(integer(INT64_MIN)), INT64_MIN);
  EXPECT_EQ(integer_of(integer(INT64_MAX)), INT64_MAX);
  expect_refused(pickle("\x8a\x09" + std::string(9, '\x7f')), {"an integer has 9 bytes"});
  expect_refused(pickle("\x8a\xff" + std::string(255, '\x7f')), {"an integer has 255 bytes"});
  expect_refused(pickle("\x8b" + little(1 << 30, 4)), {"instruction 0x8b"});
}

TEST(Pickle, ReadsContainersAndTheMemo) {
  // {"a": [1, None, True], "b": same list, ("x", 1.5): False} with every way to build a container.
  const std::string bytes = pickle(std::string("}q\x00", 3) + text("a") + "]q\x01K\x01" + "a(N\x88" + "es(" +
                                   text("b") + "h\x01" + text("x") + "G\x3f\xf8" + std::string(6, '\0') + "\x86\x89u");
  const PickleGraph graph = parse(bytes);
  const PickleValue& root = graph[graph.root];
  ASSERT_EQ(root.kind, PickleKind::dictionary);
  ASSERT_EQ(root.items.size(), 6u);
  EXPECT_EQ(graph[root.items[0]].text, "a");
  const PickleValue& list = graph[root.items[1]];
  EXPECT_EQ(root.items[3], root.items[1]);
  ASSERT_EQ(list.items.size(), 3u);
  EXPECT_EQ(graph[list.items[0]].integer, 1);
  EXPECT_EQ(graph[list.items[1]].kind, PickleKind::none);
  EXPECT_EQ(graph[list.items[2]].kind, PickleKind::boolean);
  const PickleValue& pair = graph[root.items[4]];
  ASSERT_EQ(pair.kind, PickleKind::tuple);
  EXPECT_EQ(graph[pair.items[0]].text, "x");
  EXPECT_EQ(graph[pair.items[1]].real, 1.5);
}

TEST(Pickle, ReadsProtocolFour) {
  const std::string body = "\x8c\x04good\x94\x8c\x04name\x94\x93\x94)R\x94.";
  const auto framed = [&](std::size_t length) { return "\x80\x04\x95" + little(length, 8) + body; };
  expect_refused(framed(body.size() + 1), {"a frame is longer than the pickle"});
  const std::string bytes = framed(body.size());
  const PickleGraph graph = parse(bytes);
  ASSERT_EQ(graph[graph.root].kind, PickleKind::call);
  EXPECT_EQ(graph[graph[graph.root].items[0]].name, "name");
}

TEST(Pickle, OrderedDictIsADictionaryWhateverItsAttributes) {
  const std::string bytes = pickle(global("collections", "OrderedDict") + ")R(" + text("k") + "K\x01u" + "}(" +
                                   text("_metadata") + "Nu" + "b");
  const PickleGraph graph = parse(bytes);
  ASSERT_EQ(graph[graph.root].kind, PickleKind::dictionary);
  EXPECT_EQ(graph[graph.root].items.size(), 2u);
}

TEST(Pickle, RefusesEveryGlobalThatIsNotAllowed) {
  expect_refused(pickle(global("os", "system") + tuple({text("echo pwned")}) + "R"),
                 {"refuses to load", "\"os\".\"system\"", "nothing was run"});
  expect_refused(pickle(global("builtins", "eval") + tuple({text("1")}) + "R"), {"\"builtins\".\"eval\""});
  expect_refused(pickle(text("posix") + text("system") + "\x93"), {"\"posix\".\"system\""});
  expect_refused(pickle(global("torch.hub", "load") + ")R"), {"torch.hub"});
  expect_refused(pickle(global("a\\b\x07", "x")), {R"("a\\b\x07")"});
}

TEST(Pickle, RefusesOtherInstructions) {
  // INST, OBJ, NEWOBJ, NEWOBJ_EX, EXT1, BYTEARRAY8, NEXT_BUFFER, STRING, FLOAT, INT, LONG, PERSID, PUT, GET
  for (const char* instruction :
       {"i", "o", "\x81", "\x92", "\x82", "\x96", "\x97", "S", "F", "I", "L", "P", "p", "g"}) {
    expect_refused(pickle(instruction + std::string("os\nsystem\n")), {"refuses to load", "instruction"});
  }
}

TEST(Pickle, RefusesMisuse) {
  expect_refused("", {"damaged"});
  expect_refused("cos\nsystem\n.", {"protocol"});
  expect_refused("\x80\x01N.", {"protocol 1"});
  expect_refused("\x80\x06N.", {"protocol 6"});
  expect_refused("\x80\x02N", {"ends in the middle"});
  expect_refused(pickle(""), {"more or less than one value"});
  expect_refused(pickle("NN"), {"more or less than one value"});
  expect_refused(pickle("N("), {"more or less than one value"});
  expect_refused(pickle("t"), {"a mark is missing"});
  expect_refused(pickle("N(\x85"), {"a value is missing"});  // below the mark
  expect_refused(pickle("R"), {"a value is missing"});
  expect_refused(pickle("N)R"), {"calls what is no global"});
  expect_refused(pickle(global("good", "f") + "NR"), {"no tuple"});
  expect_refused(pickle(global("collections", "OrderedDict") + "]\x85R"), {"with arguments"});
  expect_refused(pickle(global("good", "f") + ")R}b"), {"sets attributes"});
  expect_refused(pickle("NNa"), {"no list"});
  expect_refused(pickle("]K\1K\1s"), {"no dictionary"});
  expect_refused(pickle("}(K\1u"), {"a key has no value"});
  expect_refused(pickle("h\5"), {"nothing was remembered as 5"});
  expect_refused(pickle("j\xff\xff\xff\xff"), {"nothing was remembered"});
  expect_refused(pickle("q\1"), {"a value is missing"});
  expect_refused(pickle("X\xff\xff\xff\xff"
                        "abc"),
                 {"ends in the middle"});
  expect_refused(pickle("cno newline"), {"ends in the middle"});
}

TEST(Pickle, DepthCostsNoStack) {
  std::string nested = "N";
  nested.append(200'000, '\x85');  // ((((None,),),),)
  const std::string bytes = pickle(nested);
  const PickleGraph graph = parse(bytes);
  EXPECT_EQ(graph.values.size(), 200'001u);
  std::string lists = "]";
  for (int i = 0; i < 100'000; ++i) lists += "](";
  expect_refused(pickle(lists), {"more or less than one value"});
  // A list that contains itself.
  const std::string cycle = pickle("]q\1h\1a");
  EXPECT_EQ(parse(cycle).values.size(), 1u);
}

TEST(Pickle, BoundsWhatItHolds) {
  expect_refused(pickle(std::string(250'001, 'N')), {"more than 250000 values"});
  // A bomb of the memo: every level names the one before ten times. It stays as small as it is written.
  std::string bomb = "]q\1";
  for (int level = 0; level < 200; ++level) {
    bomb += "(";
    for (int i = 0; i < 10; ++i) bomb += "h\1";
    bomb += "tq\1";
  }
  expect_refused(pickle(bomb), {"more or less than one value"});
  std::string memo;
  for (int i = 0; i < 100'000; ++i) memo += "Nr" + little(static_cast<std::uint64_t>(i) * 40'000, 4) + "0";
  expect_refused(pickle("N" + std::string(250'001, '\x94')), {"remembers more than 250000"});
  expect_refused(pickle(std::string(250'001, '(')), {"more than 250000 open marks"});
  const std::string bytes = pickle(memo + "N");
  EXPECT_EQ(parse(bytes).values.size(), 100'001u);
}

TEST(Pickle, EveryPrefixIsACleanError) {
  const std::string bytes = pickle(dictionary({{"a", tuple({integer(1), text("x")})}, {"b", "]"}}) + "q\1");
  ASSERT_NO_THROW(parse(bytes));
  for (std::size_t size = 0; size < bytes.size(); ++size) expect_refused(bytes.substr(0, size), {"damaged"});
}

}  // namespace
}  // namespace flashvsr::weights
