// Parsing of options, convert, info and bench through the built program.
#include "program_runner.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace flashvsr::cli::test {
namespace {

using nlohmann::json;

class Commands : public ProgramTest {};

TEST_F(Commands, WrongUsageIsOneLineAndStatusTwo) {
  const std::vector<std::string> wrong[] = {
      {},
      {"polish"},
      {"upscale"},
      {"upscale", "in.mp4"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--scale", "0"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--scale", "nan"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--scale", "2", "--size", "20x20"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--size", "20"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--fit", "pad"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--size", "20x20", "--fit", "squeeze"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--variant", "v2"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--device", "tpu"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--device", "cuda:"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--device", "cuda:-1"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--device", "cuda:1x"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--device", "cpu:1"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--device", "cpu-reference"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--precision", "f16"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--decoder", "huge"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--color-fix", "sepia"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--sparse-ratio", "-1"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--sparse-ratio", "some"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--local-range", "0"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--local-window", "open"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--kv-chunks", "0"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--seed", "-1"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--threads", "-1"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--crf", "x"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--quiet", "--json"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--tiles", "3"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--tiles", "0x2"},
      {"upscale", "in.mp4", "-o", "out.mp4", "--turbo"},
      {"info", "--tiles", "2x1"},
      {"verify"},
      {"verify", "set", "--precision", "auto"},
      {"convert", "folder"},
      {"bench", "--size", "big"},
      {"bench", "--model", "nano", "--config", "nano"}};
  for (const std::vector<std::string>& arguments : wrong) {
    const ProgramResult result = run(arguments);
    std::string line;
    for (const std::string& word : arguments) line += word + " ";
    EXPECT_EQ(result.status, 2) << line << result.err;
    EXPECT_EQ(result.error_lines(), 1) << line << result.err;
    EXPECT_EQ(result.err.rfind("flashvsr: ", 0), 0u) << result.err;
    EXPECT_EQ(result.out, "");
  }
  EXPECT_TRUE(files().empty());
}

TEST_F(Commands, HelpNamesEveryOption) {
  const ProgramResult help = run({"upscale", "--help"});
  EXPECT_EQ(help.status, 0);
  for (const char* option :
       {"--scale",     "--size",    "--fit",       "--model",        "--variant",     "--device",
        "--precision", "--decoder", "--color-fix", "--sparse-ratio", "--local-range", "--local-window",
        "--kv-chunks", "--seed",    "--threads",   "--memory-limit", "--codec",       "--crf",
        "--overwrite", "--quiet",   "--json",      "--tiles"}) {
    EXPECT_NE(help.out.find(option), std::string::npos) << option;
  }
  const ProgramResult version = run({"--version"});
  EXPECT_EQ(version.status, 0);
  EXPECT_EQ(version.out.rfind("flashvsr ", 0), 0u) << version.out;
}

TEST_F(Commands, ConvertPacksOnceAndCarriesTheVariant) {
  const std::vector<std::string> pack{"convert", golden_set("v1").string(), "-o", "model.safetensors"};
  ProgramResult result = run(pack);
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(files(), std::vector<std::string>{"model.safetensors"});
  result = run(pack);
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.error_lines(), 1) << result.err;
  result = run({"convert", golden_set("v1").string(), "-o", "model.safetensors", "--overwrite"});
  EXPECT_EQ(result.status, 0) << result.err;

  result = run({"info", "./model.safetensors", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const json model = json::parse(result.out)["model"];
  EXPECT_EQ(model["variant"], "v1");
  EXPECT_EQ(model["dit"]["dim"], 256);
  EXPECT_EQ(model["dit"]["layers"], 2);
  EXPECT_EQ(model["decoders"]["full"], true);
}

TEST_F(Commands, ConvertRefusesAContradiction) {
  const ProgramResult result =
      run({"convert", golden_set("v1").string(), "-o", "model.safetensors", "--variant", "v1.1"});
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.error_lines(), 1) << result.err;
  EXPECT_TRUE(files().empty());
}

TEST_F(Commands, InfoDescribesTheBuild) {
  const ProgramResult result = run({"info", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const json report = json::parse(result.out);
  EXPECT_TRUE(report["build"]["onednn"].is_boolean());
  EXPECT_TRUE(report["build"]["ffmpeg"].is_boolean());
  EXPECT_GE(report["processor"]["threads"], 1);
  EXPECT_EQ(report["devices"][0]["name"], "cpu");
  EXPECT_EQ(report["devices"][0]["available"], true);
  EXPECT_TRUE(report["build"]["cuda_architectures"].is_array());
  // Where CUDA cannot be used, it says why.
  const auto& cuda = report["devices"][1];
  EXPECT_EQ(cuda["name"], "cuda");
  EXPECT_TRUE(cuda.contains(cuda["available"] ? "hardware" : "reason"));
  EXPECT_EQ(run({"info"}).status, 0);
  const ProgramResult unknown = run({"info", "colossal"});
  EXPECT_EQ(unknown.status, 1);
  EXPECT_EQ(unknown.error_lines(), 1) << unknown.err;
}

// The published model at sizes whose memory on a device is to stay below these amounts.
TEST_F(Commands, InfoPlansMemory) {
  struct Case {
    const char* size;
    double gibibytes;
  };
  for (const Case& c : {Case{"1408x768", 9}, Case{"2560x1536", 24}, Case{"3840x2176", 45}}) {
    const ProgramResult result =
        run({"info", "--plan", c.size, "--config", "published", "--device", "cuda", "--precision", "bf16", "--json"});
    ASSERT_EQ(result.status, 0) << result.err;
    const json plan = json::parse(result.out);
    EXPECT_LE(plan["total"].get<double>() / (1 << 30), c.gibibytes) << c.size;
    // 91 windows of keys and values in bf16 and of block means in f32.
    const double tokens = plan["width"].get<double>() * plan["height"].get<double>() / 128;
    EXPECT_EQ(plan["kv_cache"].get<double>(), 91 * tokens * 1536 * (2 * 2 + 4.0 / 128));
    EXPECT_EQ(plan["model"], "published sizes, random weights");
    EXPECT_TRUE(plan["working"].contains("decoder"));
  }
  const ProgramResult limited = run({"info", "--plan", "3840x2176", "--config", "published", "--device", "cuda",
                                     "--precision", "bf16", "--memory-limit", "24", "--json"});
  ASSERT_EQ(limited.status, 0) << limited.err;
  const json spilled = json::parse(limited.out);
  EXPECT_LE(spilled["total"].get<double>(), 24e9);
  EXPECT_GT(spilled["spilled"].get<double>(), 20e9);
  EXPECT_EQ(spilled["tiles"], "1x1");
  EXPECT_GT(spilled["decoder_slice"], 0);
  const ProgramResult table = run({"info", "--plan", "256x256", "--device", "cpu", "--kv-chunks", "2"});
  EXPECT_EQ(table.status, 0) << table.err;
  EXPECT_NE(table.out.find("KV cache"), std::string::npos) << table.out;
  EXPECT_EQ(run({"info", "nano", "--plan", "256x256"}).status, 0);
  EXPECT_EQ(run({"info", "--plan", "wide"}).status, 2);
  EXPECT_EQ(run({"info", "--config", "published"}).status, 2);
  EXPECT_EQ(run({"info", "--plan", "256x256", "--full-decoder"}).status, 1);
}

// Less and less memory for the same output.
TEST_F(Commands, InfoPlansWhatIsDoneWhereMemoryIsShort) {
  const auto plan = [&](double gigabytes, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"info",        "--plan", "1920x1088", "--config",       "published",
                                   "--device",    "cuda",   "--json",    "--memory-limit", std::to_string(gigabytes),
                                   "--precision", "bf16"};
    words.insert(words.end(), more.begin(), more.end());
    const ProgramResult result = run(words);
    EXPECT_EQ(result.status, 0) << result.err;
    return json::parse(result.out);
  };
  const json all = plan(200);
  EXPECT_EQ(all["tiles"], "1x1");
  EXPECT_EQ(all["spilled_windows"], 0);
  const double total = all["total"].get<double>() / 1e9;
  const json sliced = plan(total - 0.1);
  EXPECT_LT(sliced["decoder_slice"], all["decoder_slice"]);
  EXPECT_EQ(sliced["spilled_windows"], 0);
  const json spilled = plan(total / 2);
  EXPECT_EQ(spilled["decoder_slice"], all["decoder_slice"]);
  EXPECT_GT(spilled["spilled_windows"], 0);
  EXPECT_EQ(spilled["tiles"], "1x1");
  const json whole = plan(5, {"--tiles", "off"});
  EXPECT_EQ(whole["fits"], false);
  EXPECT_EQ(whole["tiles"], "1x1");
  const json tiled = plan(whole["total"].get<double>() / 1e9 - 0.1);
  EXPECT_EQ(tiled["fits"], true);
  EXPECT_NE(tiled["tiles"], "1x1");
  EXPECT_LT(tiled["tile_width"].get<int>() * tiled["tile_height"].get<int>(), 1920 * 1088);
  for (const json& fitting : {all, sliced, spilled, tiled}) EXPECT_LE(fitting["total"], fitting["available"]);
  EXPECT_EQ(plan(200, {"--tiles", "3x2"})["tiles"], "3x2");

  const ProgramResult table = run({"info", "--plan", "1024x512", "--device", "cpu", "--tiles", "2x1"});
  EXPECT_EQ(table.status, 0) << table.err;
  EXPECT_NE(table.out.find("2x1 tiles of 640x512 pixels"), std::string::npos) << table.out;
  const ProgramResult refused = run({"info", "--plan", "256x256", "--tiles", "2x1"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_EQ(refused.error_lines(), 1) << refused.err;
}

constexpr const char* kTinyConfig =
    R"({"dim": 128, "num_heads": 1, "ffn_dim": 128, "num_layers": 1, "text_dim": 16,
    "text_tokens": 4, "freq_dim": 32, "lq_hidden": [8, 16], "tc_channels": [8, 8, 8, 8], "variant": "v1.1"})";

TEST_F(Commands, BenchMeasuresARandomModelOfAnySize) {
  std::ofstream(path("tiny.json")) << kTinyConfig;
  const ProgramResult result =
      run({"bench", "--config", "tiny.json", "--size", "256x128", "--frames", "25", "--json", "--device", "cpu"});
  ASSERT_EQ(result.status, 0) << result.err;
  const json report = json::parse(result.out);
  EXPECT_EQ(report["frames"], 25);
  EXPECT_GT(report["fps"], 0);
  EXPECT_GT(report["linear_gflop_per_s"], 0);
  EXPECT_GT(report["convolution_gflop_per_s"], 0);
  ASSERT_EQ(report["networks"].size(), 3u);
  // LR projector: conv1 768 -> 8 and conv2 8 -> 16 with 4x3x3 taps and the linear, once per latent of 16 x 8 tokens.
  // 25 frames need F = 33: clips of 8 latents, and clip 0 runs conv1 alone.
  const double tokens = 16 * 8;
  const double conv1 = 2 * 2 * tokens * 768 * 8 * 36, conv2 = 2 * tokens * 8 * 16 * 36, linear = 2 * tokens * 16 * 128;
  const double expected = (9 * conv1 + 8 * (conv2 + linear)) / 25 * 1e-9;
  EXPECT_NEAR(report["networks"][0]["gflop_per_frame"].get<double>(), expected, 1e-6 * expected);
  EXPECT_GT(report["peak_process_bytes"], 0);
  EXPECT_EQ(report["fps"], report["fps_min"]);
  EXPECT_GT(report["steady_fps"], 0);

  // Every operation is told, and belongs to one part and one network at most.
  double all = 0, parts = 0;
  bool attention = false;
  for (const json& operation : report["operations"]) {
    EXPECT_GT(operation["calls"], 0);
    all += operation["ms_per_frame"].get<double>();
    attention |= operation["operation"] == "sparse_attention" && operation["gflop_per_frame"] > 0;
  }
  for (const json& part : report["parts"]) parts += part["ms_per_frame"].get<double>();
  EXPECT_NEAR(all, parts, 1e-9 * all);
  EXPECT_NEAR(all, report["all_parts"]["ms_per_frame"].get<double>(), 1e-9 * all);
  EXPECT_TRUE(attention);

  ASSERT_EQ(report["stages"].size(), 10u);
  EXPECT_EQ(report["stages"][9]["frames"], 20);
  EXPECT_GT(report["stages"][9]["process_bytes"], 0);
  // Only devices of a kind have a floor, and only NVIDIA's say what they draw.
  EXPECT_FALSE(report.contains("floor_fps"));
  EXPECT_FALSE(report.contains("watts_mean"));
}

TEST_F(Commands, BenchPrintsTheSameAsTables) {
  std::ofstream(path("tiny.json")) << kTinyConfig;
  const ProgramResult result = run({"bench", "--config", "tiny.json", "--size", "256x128", "--frames", "22", "--repeat",
                                    "2", "--detail", "--device", "cpu"});
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* expected : {"\nsparse attention ", "\nsum ", "\ndecoder conv2d ", "\nFPS  ", ", steady ", " to "}) {
    EXPECT_NE(result.out.find(expected), std::string::npos) << expected << " in\n" << result.out;
  }
}

}  // namespace
}  // namespace flashvsr::cli::test
