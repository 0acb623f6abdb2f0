#include "weights/torch_archive.h"

#include "weight_files.h"

namespace flashvsr::weights {
namespace {

constexpr auto kFormat = ErrorCode::format;

TorchArchive parse(const std::string& bytes) { return parse_torch_archive(storage_of(bytes), "file"); }

void expect_refused(const std::string& bytes, const std::vector<std::string>& parts, ErrorCode code = kFormat) {
  std::vector<std::string> all{"file: "};
  all.insert(all.end(), parts.begin(), parts.end());
  expect_error([&] { parse(bytes); }, code, all);
}

std::string floats(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

const std::string kSixFloats = floats({0, 1, 2, 3, 4, 5});

std::string archive_of(const std::string& value) {
  return archive_bytes(pickle(dictionary({{"w", value}})), {kSixFloats});
}

std::vector<float> values_of(const std::string& value) { return parse(archive_of(value)).tensors.at("w").to_f32(); }

const std::string kStorage = storage("FloatStorage", "0", 6);

TEST(TorchArchive, ReadsStateDictsAndBareTensors) {
  const TorchArchive archive =
      parse(archive_bytes(pickle(dictionary({{"a", tensor(kStorage, 0, {2, 3}, {3, 1})},
                                             {"b", tensor(storage("BFloat16Storage", "1", 2), 1, {1}, {1})},
                                             {"scalar", tensor(kStorage, 5, {}, {})},
                                             {"none", tensor(kStorage, 6, {0, 4}, {4, 1})}})),
                          {kSixFloats, little(0x3f80, 2) + little(0x4000, 2)}));
  EXPECT_FALSE(archive.tensor);
  EXPECT_EQ(archive.tensors.at("a").to_f32(), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(archive.tensors.at("a").shape(), Shape({2, 3}));
  EXPECT_EQ(archive.tensors.at("b").to_f32(), std::vector<float>{2});
  EXPECT_EQ(archive.tensors.at("b").dtype(), DType::bf16);
  EXPECT_EQ(archive.tensors.at("scalar").to_f32(), std::vector<float>{5});
  EXPECT_EQ(archive.tensors.at("none").shape(), Shape({0, 4}));

  const TorchArchive bare = parse(archive_bytes(pickle(tensor(kStorage, 0, {6}, {1})), {kSixFloats}));
  EXPECT_TRUE(bare.tensors.empty());
  EXPECT_EQ(bare.tensor.to_f32(), (std::vector<float>{0, 1, 2, 3, 4, 5}));
}

TEST(TorchArchive, UsesAlignedContiguousTensorsInPlace) {
  // The name fills up to an offset that is a multiple of four.
  for (const char* name : {"m/data/0", "mo/data/0", "mod/data/0", "mode/data/0"}) {
    const std::string folder = std::string(name).substr(0, std::string(name).find('/'));
    const std::string bytes =
        zip_bytes({{.name = name, .data = kSixFloats},
                   {.name = folder + "/data.pkl", .data = pickle(dictionary({{"w", tensor(kStorage, 2, {4}, {1})}}))}});
    const auto file = storage_of(bytes);
    const Parameter w = parse_torch_archive(file, "file").tensors.at("w");
    EXPECT_EQ(w.to_f32(), (std::vector<float>{2, 3, 4, 5}));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(w.values().raw()) % 4, 0u);
    EXPECT_EQ(w.values().storage() == file, (30 + std::string(name).size()) % 4 == 0) << name;
  }
}

TEST(TorchArchive, MakesStridedTensorsContiguous) {
  EXPECT_EQ(values_of(tensor(kStorage, 0, {3, 2}, {1, 3})), (std::vector<float>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(values_of(tensor(kStorage, 1, {2, 2}, {3, 1})), (std::vector<float>{1, 2, 4, 5}));
  EXPECT_EQ(values_of(tensor(kStorage, 3, {2, 3}, {0, 1})), (std::vector<float>{3, 4, 5, 3, 4, 5}));
  EXPECT_EQ(values_of(tensor(kStorage, 0, {1, 6}, {999, 1})), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(values_of(tensor(kStorage, 0, {1, 2, 1, 3}, {7, 1, 7, 2})), (std::vector<float>{0, 2, 4, 1, 3, 5}));
}

TEST(TorchArchive, FindsWrappedStateDictsAndParameters) {
  const std::string parameter =
      global("torch._utils", "_rebuild_parameter") +
      tuple({tensor(kStorage, 0, {6}, {1}), "\x88", global("collections", "OrderedDict") + ")R"}) + "R";
  for (const char* key : {"state_dict", "model", "params"}) {
    const TorchArchive archive = parse(
        archive_bytes(pickle(dictionary({{"epoch", "K\5"}, {key, dictionary({{"w", parameter}})}})), {kSixFloats}));
    EXPECT_EQ(archive.tensors.at("w").to_f32().at(5), 5) << key;
  }
}

TEST(TorchArchive, RefusesCode) {
  const std::string payload = global("os", "system") + tuple({text("echo pwned")}) + "R";
  expect_refused(archive_of(payload), {"refuses to load", "\"os\".\"system\""});
  expect_refused(archive_bytes(pickle(global("builtins", "exec") + "0}"), {}), {"\"builtins\".\"exec\""});
  expect_refused(archive_of(global("torch", "load") + "0N"), {"\"torch\".\"load\""});
  expect_refused(archive_of(global("torch.storage", "_load_from_bytes") + "0N"), {"_load_from_bytes"});
  expect_refused(archive_of(global("torch._utils", "_rebuild_tensor_v2.__globals__") + "0N"), {"__globals__"});
}

TEST(TorchArchive, RefusesWhatIsNoTensor) {
  expect_refused(archive_of("N"), {"\"w\" is not a tensor"});
  expect_refused(archive_of("K\1"), {"\"w\" is not a tensor"});
  expect_refused(archive_bytes(pickle("N"), {}), {"the tensor is not a tensor"});
  expect_refused(archive_bytes(pickle("}K\1Ns"), {}), {"a key that is no text"});
  const std::string w = tensor(kStorage, 0, {6}, {1});
  expect_refused(archive_bytes(pickle(dictionary({{"w", w}, {"w", w}})), {kSixFloats}), {"\"w\" twice"});
  expect_refused(archive_of(global("torch._utils", "_rebuild_tensor_v2") + ")R"), {"lacks storage"});
  expect_refused(archive_of(global("torch._utils", "_rebuild_parameter") + ")R"), {"without values"});
  expect_refused(archive_of(global("torch._utils", "_rebuild_tensor_v2") + "(K\1K\0K\1K\1tR"), {"damaged"});
  const std::string twice = global("torch._utils", "_rebuild_parameter") + tuple({w, "\x88"}) + "R";
  ASSERT_NO_THROW(parse(archive_of(twice)));
  expect_refused(archive_of(global("torch._utils", "_rebuild_parameter") + tuple({twice, "\x88"}) + "R"),
                 {"\"w\" is not a tensor"});
}

TEST(TorchArchive, RefusesStoragesThatLie) {
  const auto with = [](const std::string& storage) { return archive_of(tensor(storage, 0, {1}, {1})); };
  expect_refused(with(storage("FloatStorage", "0", 7)), {"\"w\" claims 7 values of F32", "24 bytes"});
  expect_refused(with(storage("FloatStorage", "0", 5)), {"claims 5"});
  expect_refused(with(storage("FloatStorage", "0", -1)), {"claims -1"});
  expect_refused(with(storage("FloatStorage", "0", INT64_MAX)), {"claims"});
  expect_refused(with(storage("FloatStorage", "0", (std::int64_t{1} << 62) + 6)), {"claims"});
  expect_refused(with(storage("FloatStorage", "1", 6)), {"has no \"data/1\""});
  expect_refused(with(storage("FloatStorage", "../version", 6)), {"has no"});
  expect_refused(with(storage("BoolStorage", "0", 24)), {"torch.BoolStorage, which is not supported"});
  expect_refused(with("N"), {"no valid storage"});
  expect_refused(with(tuple({text("storage")}) + "Q"), {"no valid storage"});
  expect_refused(
      with(tuple({text("other"), global("torch", "FloatStorage"), text("0"), text("cpu"), integer(6)}) + "Q"),
      {"no valid storage"});
  expect_refused(
      with(tuple({text("storage"), global("torch.storage", "UntypedStorage"), text("0"), text("cpu"), integer(24)}) +
           "Q"),
      {"torch.storage.UntypedStorage, which is not supported"});
}

TEST(TorchArchive, RefusesViewsOutsideOfTheStorage) {
  const auto refused = [](std::int64_t offset, const std::vector<std::int64_t>& size,
                          const std::vector<std::int64_t>& stride, const char* part) {
    expect_refused(archive_of(tensor(kStorage, offset, size, stride)), {"\"w\"", part});
  };
  constexpr std::int64_t kHuge = std::int64_t{1} << 62;
  refused(0, {7}, {1}, "does not fit");
  refused(1, {6}, {1}, "does not fit");
  refused(6, {1}, {1}, "does not fit");
  refused(7, {0}, {1}, "does not fit");
  refused(0, {2, 3}, {4, 1}, "does not fit");
  refused(0, {3}, {3}, "does not fit");
  refused(0, {3}, {kHuge}, "does not fit");
  refused(0, {kHuge, kHuge}, {0, 0}, "does not fit");
  refused(0, {100}, {0}, "does not fit");
  refused(INT64_MAX, {2}, {INT64_MAX}, "does not fit");
  refused(0, {3, 2}, {kHuge, kHuge}, "does not fit");
  refused(-1, {1}, {1}, "no valid offset");
  refused(0, {-1}, {1}, "below zero");
  refused(5, {2}, {-1}, "below zero");
  refused(0, {2}, {1, 1}, "1 sizes and 2 strides");
  refused(0, {1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1}, "7 dimensions");
  expect_refused(
      archive_of(global("torch._utils", "_rebuild_tensor_v2") + tuple({kStorage, "K\1", "N", "N", "\x89", "}"}) + "R"),
      {"no tuple"});
}

// Ten thousand transposed views of one storage: more copies than the file is worth.
TEST(TorchArchive, BoundsTheCopiesOfSharedStorages) {
  const std::string data(1 << 20, '\0');
  std::string body =
      "}(" + text("w") + tensor(storage("ByteStorage", "0", 1 << 20), 0, {1024, 1024}, {1, 1024}) + "q\1";
  for (int i = 0; i < 100; ++i) {
    body += text(std::to_string(i)) + tensor(storage("ByteStorage", "0", 1 << 20), 0, {1024, 1024}, {1, 1024});
  }
  expect_refused(archive_bytes(pickle(body + "u"), {data}), {"more memory than the file has"});
}

TEST(TorchArchive, RefusesForeignFiles) {
  expect_refused("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", {"before 1.6", "save it again"});
  expect_refused("not an archive, whatever else it may be", {"is not a torch.save archive"});
  expect_refused("version https://git-lfs.github.com/spec/v1\n", {"Git LFS pointer"});
  expect_refused("PK", {"too short"});
  expect_refused(zip_bytes({{.name = "readme.txt", .data = "x"}}), {"no data.pkl"});
  expect_refused(zip_bytes({{.name = "a/data.pkl", .data = pickle("N")}, {.name = "b/data.pkl", .data = pickle("N")}}),
                 {"more than one data.pkl"});
  expect_refused(zip_bytes({{.name = "a/data.pkl", .data = pickle("N")}, {.name = "b/x", .data = ""}}),
                 {"\"b/x\" outside of its folder"});
  expect_refused(zip_bytes({{.name = "a/data.pkl", .data = pickle("N")}, {.name = "a/constants.pkl", .data = ""}}),
                 {"TorchScript"});
  expect_refused(zip_bytes({{.name = "a/data.pkl", .data = pickle("N")}, {.name = "a/byteorder", .data = "big"}}),
                 {"byte order \"big\""});
}

TEST(TorchArchive, RefusesDamagedZipArchives) {
  const ZipItem good{.name = "a/data.pkl", .data = pickle(dictionary({}))};
  ASSERT_NO_THROW(parse(zip_bytes({good})));
  ASSERT_NO_THROW(parse(zip_bytes({good}, true)));
  ZipItem item = good;
  item.zip64 = true;
  ASSERT_NO_THROW(parse(zip_bytes({item}, true)));
  item = good, item.flags = 0x0808;
  ASSERT_NO_THROW(parse(zip_bytes({item})));
  ASSERT_NO_THROW(parse(zip_bytes({good, {.name = "a/byteorder", .data = "little"}})));

  item = good, item.method = 8;
  expect_refused(zip_bytes({item}), {"compressed (method 8)"}, ErrorCode::unsupported);
  item = good, item.flags = 1;
  expect_refused(zip_bytes({item}), {"encrypted"}, ErrorCode::unsupported);
  item = good, item.wrong_crc = true;
  expect_refused(zip_bytes({item}), {"\"a/data.pkl\" is damaged: its CRC-32"});
  item = good, item.local_name = "a/data.pkx";
  expect_refused(zip_bytes({item}), {"another name"});
  item = good, item.directory_size = 3;
  expect_refused(zip_bytes({item}), {"described differently"});
  item = good, item.directory_size = 1 << 30;
  expect_refused(zip_bytes({item}), {"does not fit"});
  item = good, item.zip64 = true, item.directory_size = INT64_MAX;
  expect_refused(zip_bytes({item}), {"does not fit"});
  item = good, item.local_offset = 1 << 20;
  expect_refused(zip_bytes({item}), {"not where the directory says"});
  item = good, item.zip64 = true, item.local_offset = INT64_MAX;
  expect_refused(zip_bytes({item}), {"not where the directory says"});
  expect_refused(zip_bytes({good, good}), {"twice"});
  // Two names for the same bytes: the way of zip bombs.
  ZipItem second{.name = "a/data/00", .data = good.data};
  second.local_offset = 0;
  second.local_name = good.name;
  expect_refused(zip_bytes({good, second}), {"another name"});
  const std::string inner = zip_bytes({{.name = "a/data/0", .data = "xy"}});
  ZipItem outer{.name = "a/data/1", .data = inner}, nested{.name = "a/data/0", .data = "xy"};
  nested.local_offset = static_cast<std::int64_t>(zip_bytes({good}).find("PK\1\2") + 30 + outer.name.size());
  expect_refused(zip_bytes({good, outer, nested}), {"overlap"});

  std::string many = zip_bytes({good});
  many.replace(many.size() - 12, 2, "\xff\xff");
  expect_refused(many, {"announces 65535 entries"});
  std::string none = zip_bytes({good});
  none.replace(none.size() - 12, 2, std::string(2, '\0'));
  expect_refused(none, {"bytes that belong to no entry"});
  std::string outside = zip_bytes({good});
  outside.replace(outside.size() - 6, 4, "\xf0\xff\xff\xff");
  expect_refused(outside, {"outside of the file"});
}

TEST(TorchArchive, EveryPrefixIsACleanError) {
  for (const char* name : {"v1/posi_prompt.pth", "attention/TCDecoder.ckpt"}) {
    const std::string bytes = read_file(std::string(FLASHVSR_SOURCE_DIR "/tests/golden/") + name);
    ASSERT_NO_THROW(parse(bytes));
    for (std::size_t size = 0; size < bytes.size(); size += 97) expect_refused(bytes.substr(0, size), {});
  }
}

// Flips every byte of the small archive: an error or a well-formed result, never anything else (run it under a
// sanitizer).
TEST(TorchArchive, AnyFlippedByteIsSafe) {
  const std::string bytes = read_file(FLASHVSR_SOURCE_DIR "/tests/golden/v1/posi_prompt.pth");
  int errors = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    std::string changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ 0xff);
    try {
      const TorchArchive archive = parse(changed);
      EXPECT_TRUE(archive.tensor);
    } catch (const Error&) {
      ++errors;
    }
  }
  EXPECT_GT(errors, 300);  // pickle, names, sizes, offsets, signatures
}

}  // namespace
}  // namespace flashvsr::weights
