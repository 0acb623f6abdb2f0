#include "weights/safetensors.h"

#include "weight_files.h"

#include <sys/resource.h>

#include <cmath>
#include <csignal>

namespace flashvsr::weights {
namespace {

constexpr auto kFormat = ErrorCode::format;

SafetensorsFile parse(const std::string& bytes) { return parse_safetensors(storage_of(bytes), "file"); }

void expect_damaged(const std::string& header, const std::string& data, const std::vector<std::string>& parts) {
  std::vector<std::string> all{"file: "};
  all.insert(all.end(), parts.begin(), parts.end());
  expect_error([&] { parse(safetensors_bytes(header, data)); }, kFormat, all);
}

// {"a": type, shape, offsets}
std::string one(const std::string& type, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

TEST(Safetensors, ReadsEveryTypeInPlace) {
  const std::string header =
      R"({"__metadata__":{"k":"v"},"f64":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},)"
      R"("i64":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},"f32":{"data_offsets":[16,24],"shape":[2,1],"dtype":"F32"},)"
      R"("i32":{"dtype":"I32","shape":[],"data_offsets":[24,28]},"bf16":{"dtype":"BF16","shape":[1],"data_offsets":[28,30]},)"
      R"("f16":{"dtype":"F16","shape":[1],"data_offsets":[30,32]},"u8":{"dtype":"U8","shape":[3],"data_offsets":[32,35]},)"
      R"("none":{"dtype":"F32","shape":[0,4],"data_offsets":[35,35]}}   )";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  std::string data = little(0x3ff8000000000000, 8) + little(static_cast<std::uint64_t>(-5), 8) + little(0x3f800000, 4) +
                     little(0xc0000000, 4) + little(7, 4) + little(0x3fc0, 2) + little(0x3e00, 2) + "\x01\x02\xff";
  const auto storage = storage_of(safetensors_bytes(padded, data));
  const SafetensorsFile file = parse_safetensors(storage, "file");
  EXPECT_EQ(file.metadata.at("k"), "v");
  ASSERT_EQ(file.tensors.size(), 8u);
  const auto values = [&](const char* name) { return file.tensors.at(name).to_f32(); };
  EXPECT_EQ(values("f64"), std::vector<float>{1.5f});
  EXPECT_EQ(values("i64"), std::vector<float>{-5});
  EXPECT_EQ(values("f32"), (std::vector<float>{1, -2}));
  EXPECT_EQ(file.tensors.at("f32").shape(), Shape({2, 1}));
  EXPECT_EQ(values("i32"), std::vector<float>{7});
  EXPECT_EQ(file.tensors.at("i32").shape().rank(), 0u);
  EXPECT_EQ(values("bf16"), std::vector<float>{1.5f});
  EXPECT_EQ(values("f16"), std::vector<float>{1.5f});
  EXPECT_EQ(values("u8"), (std::vector<float>{1, 2, 255}));
  EXPECT_EQ(values("none"), std::vector<float>{});
  for (const auto& [name, parameter] : file.tensors) {
    if (parameter.shape().elements() > 0) {
      EXPECT_EQ(parameter.values().storage(), storage) << name;
    }
  }
}

TEST(Safetensors, CopiesWhatIsNotAligned) {
  const std::string data = "x" + little(0x3f800000, 4);
  const std::string header =
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}})";
  for (std::size_t shift = 0; shift < 8; ++shift) {
    const auto storage = storage_of(safetensors_bytes(header, data), shift);
    const SafetensorsFile file = parse_safetensors(storage, "file");
    const Tensor& b = file.tensors.at("b").values();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.raw()) % 4, 0u);
    EXPECT_EQ(*b.data<float>(), 1.0f);
  }
}

TEST(Safetensors, ListsTypesThatItDoesNotComputeWith) {
  const SafetensorsFile file = parse(safetensors_bytes(
      R"({"flag":{"dtype":"BOOL","shape":[2],"data_offsets":[0,2]},"deep":{"dtype":"U8","shape":[1,1,1,1,1,1,1],"data_offsets":[2,3]}})",
      "\1\1\1"));
  EXPECT_TRUE(file.tensors.empty());
  EXPECT_EQ(file.unsupported.at("flag"), "BOOL [2]");
  EXPECT_EQ(file.unsupported.at("deep"), "U8 [1, 1, 1, 1, 1, 1, 1]");
}

TEST(Safetensors, RefusesForeignFiles) {
  expect_error([] { parse("PK\3\4 something else entirely, long enough"); }, kFormat,
               {"file: is not a safetensors file"});
  expect_error([] { parse(""); }, kFormat, {"not a safetensors file"});
  expect_error([] { parse("{}"); }, kFormat, {"not a safetensors file"});
  expect_error([] { parse("version https://git-lfs.github.com/spec/v1\noid sha256:0"); }, kFormat, {"Git LFS pointer"});
  expect_error([] { parse("<!DOCTYPE html><html></html>"); }, kFormat, {"web page"});
  expect_error([] { parse(safetensors_bytes("[]", "")); }, kFormat, {"not a safetensors file"});
}

TEST(Safetensors, RefusesHeadersThatDoNotFit) {
  const std::string header = one("U8", "[1]", "[0,1]");
  for (const std::uint64_t length : {std::uint64_t{header.size() + 2}, std::uint64_t{100'000'001},
                                     std::uint64_t{1} << 40, ~std::uint64_t{0}, ~std::uint64_t{0} - 7}) {
    expect_error([&] { parse(little(length, 8) + header + "x"); }, kFormat, {"header of", std::to_string(length)});
  }
}

TEST(Safetensors, RefusesDamagedHeaders) {
  expect_damaged(R"({"a":)", "", {"header is damaged", "JSON"});
  expect_damaged("{}}", "", {"JSON"});
  expect_damaged("{\"\xff\":1}", "", {"JSON"});
  expect_damaged(R"({"a":1})", "", {"\"a\" has a number"});
  expect_damaged(R"({"a":"x"})", "", {"\"a\" has text"});
  expect_damaged(R"({"a":null})", "", {"\"a\" has null"});
  expect_damaged(R"({"a":[]})", "", {"\"a\" has a list"});
  expect_damaged(R"({"a":{}})", "", {"\"a\" needs dtype, shape and data_offsets"});
  expect_damaged(R"({"a":{"dtype":{}}})", "", {"nests too deep"});
  expect_damaged(R"({"a":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", "x", {"list where none belongs"});
  expect_damaged(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", "x", {"two data_offsets"});
  expect_damaged(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}})", "x", {"two data_offsets"});
  expect_damaged(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x", {"dtype twice"});
  expect_damaged(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}})", "x", {"unknown property \"x\""});
  expect_damaged(R"({"__metadata__":{"a":1}})", "", {"__metadata__ has a number"});
  expect_damaged(R"({"__metadata__":{"a":{}}})", "", {"__metadata__ nests too deep"});
  expect_damaged(R"({"__metadata__":{"a":"1","a":"2"}})", "", {"metadata \"a\" twice"});
  expect_damaged(one("U8", "[-1]", "[0,1]"), "x", {"negative"});
  expect_damaged(one("U8", "[1.0]", "[0,1]"), "x", {"not a whole number"});
  expect_damaged(one("U8", "[18446744073709551616]", "[0,1]"), "x", {"not a whole number"});
  expect_damaged(one("U8", "[true]", "[0,1]"), "x", {"true or false"});
}

TEST(Safetensors, RefusesNamesThatAppearTwice) {
  const std::string entry = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  expect_damaged(R"({"a":)" + entry + R"(,"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},"a":)" + entry + "}",
                 "xy", {"\"a\" twice"});
}

TEST(Safetensors, RefusesOffsetsThatLie) {
  expect_damaged(one("U8", "[2]", "[0,2]"), "x", {"\"a\" lies at bytes 0 to 2 of 1"});
  expect_damaged(one("U8", "[1]", "[1,0]"), "x", {"\"a\" lies at bytes 1 to 0"});
  expect_damaged(one("U8", "[1]", "[18446744073709551615,18446744073709551615]"), "x", {"\"a\" lies at bytes"});
  expect_damaged(one("F32", "[1]", "[0,2]"), "xy", {"\"a\" is F32 [1], which takes 4 bytes, but has 2"});
  expect_damaged(one("F32", "[]", "[0,0]"), "", {"takes 4 bytes, but has 0"});
  expect_damaged(one("Q4", "[1]", "[0,1]"), "x", {"\"a\" has the unknown type \"Q4\""});
  expect_damaged(one("U8", "[1]", "[0,1]"), "xy", {"the last 1 bytes belong to no tensor"});
  expect_damaged(one("U8", "[1]", "[1,2]"), "xy", {"bytes 0 to 1 of the data, before \"a\", belong to no tensor"});
  expect_damaged(
      R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
      "xyz", {"\"a\" and \"b\" overlap"});
}

TEST(Safetensors, RefusesShapesThatOverflow) {
  expect_damaged(one("F32", "[4611686018427387904]", "[0,0]"), "", {"impossible shape"});
  expect_damaged(one("U8", "[4294967296,4294967296]", "[0,0]"), "", {"impossible shape"});
  expect_damaged(one("U8", "[4294967296,4294967296,0]", "[0,0]"), "", {"impossible shape"});
  expect_damaged(one("U8", "[9223372036854775808]", "[0,0]"), "", {"impossible shape"});
  expect_damaged(one("F64", "[2305843009213693952]", "[0,0]"), "", {"impossible shape"});
}

TEST(Safetensors, EscapesNamesInMessages) {
  expect_damaged(R"({"a\nb\u0007":1})", "", {R"("a\x0ab\x07")"});
  expect_damaged(R"({")" + std::string(5000, 'n') + R"(":1})", "", {std::string(120, 'n') + "...\""});
}

// A header of the largest size that nests, or that holds nothing but tiny entries, must cost neither the stack nor
// gigabytes: the address space is limited while it is read.
TEST(Safetensors, BoundsTheCostOfHostileHeaders) {
  expect_damaged(R"({"a":)" + std::string(5'000'000, '[') + "}", "", {"list where none belongs"});
  std::string many = "{";
  for (int i = 0; i < 100'000; ++i) {
    many += fmt::format(R"({}"{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", i ? "," : "", i);
  }
  expect_damaged(many + "}", "", {"more than 65536 tensors"});
  std::string shape;
  for (int i = 0; i < 1'000'000; ++i) shape += i ? ",0" : "0";
  expect_damaged(one("U8", "[" + shape + "]", "[0,0]"), "", {"too many dimensions"});
}

TEST(Safetensors, EveryPrefixIsACleanError) {
  const std::string bytes =
      read_file(FLASHVSR_SOURCE_DIR "/tests/golden/v1.1/diffusion_pytorch_model_streaming_dmd.safetensors");
  ASSERT_NO_THROW(parse(bytes));
  const std::uint64_t data_begin =
      8 + static_cast<unsigned char>(bytes[0]) + 256u * static_cast<unsigned char>(bytes[1]);
  ASSERT_LT(data_begin, 65536u);
  for (std::size_t size = 0; size < data_begin; size += 97) {
    expect_error([&] { parse(bytes.substr(0, size)); }, kFormat, {"file: "});
  }
  for (std::size_t size = data_begin; size < bytes.size(); size += bytes.size() / 97) {
    expect_error([&] { parse(bytes.substr(0, size)); }, kFormat, {"file: ", "lies at bytes"});
  }
}

Tensor tensor_of(const Shape& shape, DType type, int first) {
  Tensor tensor = allocate_host(shape, type);
  auto* bytes = static_cast<unsigned char*>(tensor.mutable_raw());
  for (std::size_t i = 0; i < tensor.bytes(); ++i) bytes[i] = static_cast<unsigned char>(first + static_cast<int>(i));
  return tensor;
}

TEST(SafetensorsWriter, WritesWhatItReads) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "out.safetensors";
  const std::map<std::string, Tensor> tensors{{"u8", tensor_of({3}, DType::u8, 1)},
                                              {"bf16", tensor_of({2, 3}, DType::bf16, 2)},
                                              {"f32", tensor_of({1, 5, 1}, DType::f32, 3)},
                                              {"i64", tensor_of({}, DType::i64, 4)},
                                              {"empty", tensor_of({0, 2}, DType::f32, 5)}};
  write_safetensors(path, tensors, {{"key", "a \"quoted\"\nvalue"}}, false);
  const std::string bytes = read_file(path);
  const auto begin = 8 + *reinterpret_cast<const std::uint64_t*>(bytes.data());
  EXPECT_EQ(begin % 64, 0u);
  const SafetensorsFile file = read_safetensors(path);
  EXPECT_EQ(file.metadata.at("key"), "a \"quoted\"\nvalue");
  ASSERT_EQ(file.tensors.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const Tensor& read = file.tensors.at(name).values();
    EXPECT_EQ(read.shape(), tensor.shape()) << name;
    EXPECT_EQ(read.dtype(), tensor.dtype()) << name;
    EXPECT_EQ(std::memcmp(read.raw(), tensor.raw(), tensor.bytes()), 0) << name;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(read.raw()) % size_of(tensor.dtype()), 0u) << name;
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(SafetensorsWriter, OverwritesOnlyWhenTold) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "out.safetensors";
  const std::map<std::string, Tensor> tensors{{"a", tensor_of({3}, DType::u8, 1)}};
  write_file(path, "precious");
  expect_error([&] { write_safetensors(path, tensors, {}, false); }, ErrorCode::io, {path.string(), "exists already"});
  EXPECT_EQ(read_file(path), "precious");
  write_safetensors(path, tensors, {}, true);
  EXPECT_EQ(read_safetensors(path).tensors.size(), 1u);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(SafetensorsWriter, LeavesNothingBehindWhenItFails) {
  const TemporaryFolder folder;
  const std::map<std::string, Tensor> tensors{{"a", tensor_of({1 << 20}, DType::u8, 1)}};
  const auto missing = folder.path() / "no" / "out.safetensors";
  expect_error([&] { write_safetensors(missing, tensors, {}, false); }, ErrorCode::io,
               {missing.string(), "cannot be created", "No such file"});
  expect_error([&] { write_safetensors(folder.path(), tensors, {}, true); }, ErrorCode::io, {"is a folder"});
  expect_error([&] { write_safetensors("/dev/null", tensors, {}, true); }, ErrorCode::io, {"not a regular file"});

  // A limit on the size of files stands in for a full disk.
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small { 4096, before.rlim_max };
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error([&] { write_safetensors(folder.path() / "full", tensors, {}, false); }, ErrorCode::io,
               {"full: cannot be written: File too large"});
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, ignored);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(MappedFiles, NamesWhatCannotBeRead) {
  const TemporaryFolder folder;
  expect_error([&] { read_safetensors(folder.path() / "none"); }, ErrorCode::io,
               {"none: cannot be opened: No such file"});
  expect_error([&] { read_safetensors(folder.path()); }, ErrorCode::io, {"is a folder"});
  expect_error([] { read_safetensors("/dev/zero"); }, ErrorCode::io, {"/dev/zero: is not a regular file"});
  write_file(folder.path() / "empty", "");
  expect_error([&] { read_safetensors(folder.path() / "empty"); }, kFormat, {"empty: is empty"});
}

}  // namespace
}  // namespace flashvsr::weights
