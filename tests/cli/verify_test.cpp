// Golden sets through the built program: the real ones pass, damaged ones fail.
#include "program_runner.h"

#include "weights/model_files.h"
#include "weights/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <regex>
#include <string>

namespace flashvsr::cli::test {
namespace {

struct Totals {
  int passed = -1, failed = -1;
};

Totals totals(const std::string& out) {
  std::smatch match;
  static const std::regex last_line(R"((?:^|\n)(\d+) passed, (\d+) failed\n$)");
  if (!std::regex_search(out, match, last_line)) return {};
  return {std::stoi(match[1]), std::stoi(match[2])};
}

class Verify : public ProgramTest {
 protected:
  // A copy of a set whose golden.safetensors or network weights have been edited.
  std::filesystem::path edited(const std::string& set, const std::string& file,
                               const std::function<void(std::map<std::string, Tensor>&)>& edit) const {
    const std::filesystem::path copy = path(set);
    std::filesystem::copy(golden_set(set), copy);
    std::map<std::string, Tensor> tensors;
    {
      const weights::SafetensorsFile contents = weights::read_safetensors(golden_set(set) / file);
      for (const auto& [name, parameter] : contents.tensors) tensors[name] = parameter.values();
      edit(tensors);
      std::filesystem::remove(copy / file);
      weights::write_safetensors(copy / file, tensors, {}, true);
    }
    return copy;
  }

  void expect_failure_naming(const std::filesystem::path& set, const std::string& row,
                             const std::vector<std::string>& options = {}) const {
    std::vector<std::string> arguments{"verify", set.string()};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const ProgramResult result = run(arguments);
    EXPECT_EQ(result.status, 1) << result.out << result.err;
    EXPECT_GT(totals(result.out).failed, 0) << result.out << result.err;
    const std::regex failed("(^|\\n)" + std::regex_replace(row, std::regex(R"(\.)"), "\\.") + " [^\\n]*FAILED");
    EXPECT_TRUE(std::regex_search(result.out, failed)) << row << " does not fail in\n" << result.out << result.err;
  }
};

class VerifySet : public Verify, public ::testing::WithParamInterface<std::tuple<const char*, const char*>> {};

TEST_P(VerifySet, Passes) {
  const auto& [set, precision] = GetParam();
  const ProgramResult result = run({"verify", golden_set(set).string(), "--precision", precision});
  EXPECT_EQ(result.status, 0) << result.out << result.err;
  EXPECT_EQ(totals(result.out).failed, 0);
  EXPECT_GT(totals(result.out).passed, 20);
  // One row for every output of the set, nothing more.
  int outputs = 0;
  for (const char* file : {"golden.safetensors", "attention.safetensors"}) {
    if (!std::filesystem::exists(golden_set(set) / file)) continue;
    for (const auto& [name, parameter] : weights::read_safetensors(golden_set(set) / file).tensors) {
      const bool input = name == "lr_frames" || name == "noise" || name == "crop_yxhw" || name == "frame_index" ||
                         name == "vae.decode.in" || name == "vae.encode.in";
      if (!input) ++outputs;
    }
  }
  EXPECT_EQ(totals(result.out).passed, outputs) << result.out;
}

INSTANTIATE_TEST_SUITE_P(Golden, VerifySet,
                         ::testing::Combine(::testing::Values("v1", "v1.1", "attention"),
                                            ::testing::Values("f32", "bf16")),
                         [](const auto& info) {
                           std::string name = std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param);
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

TEST_F(Verify, TheWrongVariantFails) {
  expect_failure_naming(golden_set("v1.1"), "step0.lq_latents.every11th", {"--variant", "v1"});
  expect_failure_naming(golden_set("v1"), "step0.lq_latents.every11th", {"--variant", "v1.1", "--precision", "bf16"});
}

TEST_F(Verify, OnePerturbedWeightFails) {
  const auto set = edited("attention", weights::kDitFile, [](std::map<std::string, Tensor>& tensors) {
    const Tensor& weight = tensors.at("blocks.1.self_attn.v.weight");
    Tensor changed = allocate_host(weight.shape(), weight.dtype());
    std::memcpy(changed.mutable_raw(), weight.raw(), weight.bytes());
    ASSERT_EQ(changed.dtype(), DType::bf16);
    auto& value = changed.mutable_data<BFloat16>()[1234];
    value = BFloat16(static_cast<float>(value) + 0.25f);
    tensors["blocks.1.self_attn.v.weight"] = changed;
  });
  expect_failure_naming(set, "step0.velocity");
}

TEST_F(Verify, ARemovedTensorFails) {
  for (const char* name : {"step1.velocity", "step2.block_mask.layer1", "adain_frames.mean_std", "frame_index"}) {
    const auto set = edited("v1.1", "golden.safetensors",
                            [&](std::map<std::string, Tensor>& tensors) { EXPECT_EQ(tensors.erase(name), 1u); });
    expect_failure_naming(set, name);
    std::filesystem::remove_all(set);
  }
}

TEST_F(Verify, AMissingAttentionFileFails) {
  const std::filesystem::path set = path("attention");
  std::filesystem::copy(golden_set("attention"), set);
  std::filesystem::remove(set / "attention.safetensors");
  expect_failure_naming(set, "attention.out");
}

TEST_F(Verify, AnUnknownTensorFails) {
  const auto set = edited("v1.1", "golden.safetensors", [](std::map<std::string, Tensor>& tensors) {
    tensors["step9.velocity"] = tensors.at("step0.velocity");
  });
  expect_failure_naming(set, "step9.velocity");
}

TEST_F(Verify, AFlippedBlockFails) {
  const auto set = edited("attention", "attention.safetensors", [](std::map<std::string, Tensor>& tensors) {
    const Tensor& mask = tensors.at("attention.block_mask");
    Tensor changed = allocate_host(mask.shape(), mask.dtype());
    std::memcpy(changed.mutable_raw(), mask.raw(), mask.bytes());
    changed.mutable_data<std::uint8_t>()[5] ^= 1;
    tensors["attention.block_mask"] = changed;
  });
  expect_failure_naming(set, "attention.block_mask");
}

TEST_F(Verify, DamagedSetsAreOneLine) {
  EXPECT_EQ(run({"verify", path("nothing").string()}).status, 1);
  std::filesystem::copy(golden_set("v1.1"), path("set"));
  std::filesystem::permissions(path("set") / "golden.safetensors", std::filesystem::perms::owner_all);
  std::filesystem::resize_file(path("set") / "golden.safetensors", 1000);
  const ProgramResult result = run({"verify", path("set").string()});
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.error_lines(), 1) << result.err;
  EXPECT_NE(result.err.find("golden.safetensors"), std::string::npos) << result.err;

  std::filesystem::permissions(path("set") / "config.json", std::filesystem::perms::owner_all);
  std::ofstream(path("set") / "config.json") << "{";
  const ProgramResult config = run({"verify", path("set").string()});
  EXPECT_EQ(config.status, 1);
  EXPECT_EQ(config.error_lines(), 1) << config.err;
}

}  // namespace
}  // namespace flashvsr::cli::test
