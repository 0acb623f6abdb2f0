// `upscale` through the built program, with a tiny model packed from a golden set, on YUV4MPEG2 clips.
#include "program_runner.h"
#include "y4m_clip.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>

namespace flashvsr::cli::test {
namespace {

using nlohmann::json;

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<json> json_lines(const std::string& text) {
  std::vector<json> objects;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) objects.push_back(json::parse(line));
  return objects;
}

class Upscale : public ProgramTest {
 protected:
  static void SetUpTestSuite() {
    model_ = (std::filesystem::temp_directory_path() / ("flashvsr-model-" + std::to_string(getpid()) + ".safetensors"));
    RunningProgram convert({"convert", golden_set("v1.1").string(), "-o", model_, "--overwrite"},
                           std::filesystem::temp_directory_path());
    const ProgramResult result = convert.wait();
    ASSERT_EQ(result.status, 0) << result.err;
  }
  static void TearDownTestSuite() { std::filesystem::remove(model_); }

  static std::vector<std::string> command(const std::string& input, const std::string& output,
                                          const std::vector<std::string>& options = {}) {
    std::vector<std::string> words{"upscale", input, "-o", output, "--model", model_};
    words.insert(words.end(), options.begin(), options.end());
    return words;
  }

  ProgramResult through_pipes(const std::string& clip, std::vector<std::string> options = {}) const {
    options.emplace_back("--quiet");
    return run(command("-", "-", options), clip);
  }

  // One clear line, a failure, and nothing in the folder but what was there.
  void expect_one_line(const ProgramResult& result, const std::vector<std::string>& left, int status = 1) const {
    EXPECT_EQ(result.status, status) << result.err;
    EXPECT_EQ(result.error_lines(), 1) << result.err;
    EXPECT_EQ(result.err.rfind("flashvsr: ", 0), 0u) << result.err;
    EXPECT_EQ(files(), left);
  }

  static std::string model_;
};

std::string Upscale::model_;

class UpscaleCounts : public Upscale, public ::testing::WithParamInterface<int> {};

TEST_P(UpscaleCounts, AsManyFramesOutAsIn) {
  const int frames = GetParam();
  const ProgramResult result = through_pipes(make_y4m(17, 13, frames));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  const Y4mClip clip = parse_y4m(result.out);
  EXPECT_EQ(clip.width, 68);
  EXPECT_EQ(clip.height, 52);
  ASSERT_EQ(clip.luma_means.size(), static_cast<std::size_t>(frames));
  // AdaIN gives every frame the mean of its own input frame, here in limited range: half a step away would be another
  // frame.
  for (int frame = 0; frame < frames; ++frame) {
    EXPECT_NEAR(clip.luma_means[static_cast<std::size_t>(frame)], 16.0 + mean_of_frame(frame) * 219.0 / 255.0, 0.85)
        << frame;
  }
}

INSTANTIATE_TEST_SUITE_P(Frames, UpscaleCounts, ::testing::Values(1, 2, 5, 20, 21, 24, 25, 29, 30, 64));

// The built-in model at a size of its use, where all threads have work.
TEST_F(Upscale, GivesTheSameBitsRunAfterRun) {
  const std::string clip = make_y4m(320, 180, 21);
  const std::vector<std::string> words{"upscale", "-", "-o", "-", "--model", "nano", "--device", "cpu", "--quiet"};
  const ProgramResult first = run(words, clip), second = run(words, clip);
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(parse_y4m(first.out).width, 1280);
  EXPECT_EQ(parse_y4m(first.out).luma_means.size(), 21u);
  EXPECT_TRUE(first.out == second.out);
}

TEST_F(Upscale, SizesAndScales) {
  struct Case {
    int width, height;
    std::vector<std::string> options;
    int out_width, out_height;
  };
  for (const Case& c :
       {Case{17, 13, {"--scale", "1"}, 17, 13}, Case{17, 13, {"--scale", "1.5"}, 26, 20},
        Case{100, 66, {"--scale", "2"}, 200, 132}, Case{100, 66, {"--scale", "3"}, 300, 198},
        Case{32, 18, {"--size", "96x54"}, 96, 54}, Case{32, 24, {"--size", "96x54", "--fit", "stretch"}, 96, 54},
        Case{32, 24, {"--size", "96x54", "--fit", "pad"}, 96, 54},
        Case{32, 24, {"--size", "96x54", "--fit", "crop"}, 96, 54}}) {
    const ProgramResult result = through_pipes(make_y4m(c.width, c.height, 2), c.options);
    ASSERT_EQ(result.status, 0) << result.err;
    const Y4mClip clip = parse_y4m(result.out);
    EXPECT_EQ(clip.width, c.out_width);
    EXPECT_EQ(clip.height, c.out_height);
    EXPECT_EQ(clip.luma_means.size(), 2u);
  }
}

TEST_F(Upscale, PadMakesBlackBars) {
  const ProgramResult result = through_pipes(make_y4m(24, 24, 1), {"--size", "96x48", "--fit", "pad"});
  ASSERT_EQ(result.status, 0) << result.err;
  const Y4mClip clip = parse_y4m(result.out);
  const std::uint8_t black = clip.luma[0][0];
  EXPECT_LE(black, 16);
  for (int y = 0; y < 48; ++y) {
    for (const int x : {0, 23, 72, 95}) EXPECT_EQ(clip.luma[0][static_cast<std::size_t>(y * 96 + x)], black) << x;
  }
  double inside = 0;
  for (int x = 24; x < 72; ++x) inside += clip.luma[0][static_cast<std::size_t>(24 * 96 + x)];
  EXPECT_GT(inside / 48, 30);
}

TEST_F(Upscale, TheSameSeedGivesTheSameBytes) {
  const std::string clip = make_y4m(32, 20, 30);
  const ProgramResult first = through_pipes(clip, {"--seed", "7"}), second = through_pipes(clip, {"--seed", "7"});
  const ProgramResult other = through_pipes(clip, {"--seed", "8"});
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_TRUE(first.out == second.out);
  EXPECT_FALSE(first.out == other.out);
}

TEST_F(Upscale, EverySettingOfTheModelChangesOrKeepsTheSize) {
  const std::string clip = make_y4m(40, 40, 26);
  const ProgramResult plain = through_pipes(clip);
  ASSERT_EQ(plain.status, 0) << plain.err;
  for (const std::vector<std::string>& options : {std::vector<std::string>{"--decoder", "full"},
                                                  {"--color-fix", "none"},
                                                  {"--color-fix", "wavelet"},
                                                  {"--precision", "bf16"},
                                                  {"--sparse-ratio", "all", "--local-window", "preserved"},
                                                  {"--local-range", "1", "--kv-chunks", "1"},
                                                  {"--device", "cpu", "--threads", "1"}}) {
    const ProgramResult result = through_pipes(clip, options);
    ASSERT_EQ(result.status, 0) << options[0] << ": " << result.err;
    EXPECT_EQ(result.out.size(), plain.out.size()) << options[0];
  }
}

TEST_F(Upscale, WritesAFileAndSaysWhere) {
  std::ofstream(path("in.y4m"), std::ios::binary) << make_y4m(17, 13, 3);
  const ProgramResult result = run(command("in.y4m", "out.y4m"));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.err.find("3 frames in"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("out.y4m"), std::string::npos) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(files(), (std::vector<std::string>{"in.y4m", "out.y4m"}));
  EXPECT_EQ(parse_y4m(read(path("out.y4m"))).luma_means.size(), 3u);
}

TEST_F(Upscale, NothingIsOverwrittenUnasked) {
  std::ofstream(path("in.y4m"), std::ios::binary) << make_y4m(17, 13, 1);
  std::ofstream(path("out.y4m")) << "precious";
  expect_one_line(run(command("in.y4m", "out.y4m")), {"in.y4m", "out.y4m"});
  EXPECT_EQ(read(path("out.y4m")), "precious");
  EXPECT_EQ(run(command("in.y4m", "out.y4m", {"--overwrite"})).status, 0);
  EXPECT_EQ(parse_y4m(read(path("out.y4m"))).luma_means.size(), 1u);
  // Not even then over itself.
  expect_one_line(run(command("in.y4m", "in.y4m", {"--overwrite"})), {"in.y4m", "out.y4m"});
}

TEST_F(Upscale, JsonLinesTellTheStory) {
  std::ofstream(path("in.y4m"), std::ios::binary) << make_y4m(17, 13, 22);
  const ProgramResult result = run(command("in.y4m", "out.y4m", {"--json"}));
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.err, "");
  std::vector<json> events = json_lines(result.out);
  std::erase_if(events, [](const json& event) { return event["event"] == "note"; });
  ASSERT_GE(events.size(), 3u);
  EXPECT_EQ(events.front()["event"], "start");
  EXPECT_EQ(events.front()["output_width"], 68);
  EXPECT_EQ(events[1]["event"], "progress");
  EXPECT_EQ(events.back()["event"], "done");
  EXPECT_EQ(events.back()["frames"], 22);
  // With the clip on standard output they go to standard error.
  const ProgramResult piped = run(command("in.y4m", "-", {"--json"}));
  EXPECT_EQ(parse_y4m(piped.out).luma_means.size(), 22u);
  EXPECT_EQ(json_lines(piped.err).back()["event"], "done");
  const ProgramResult failed = run(command("none.y4m", "other.y4m", {"--json"}));
  EXPECT_EQ(failed.status, 1);
  EXPECT_EQ(json_lines(failed.out).back()["event"], "error");
  EXPECT_EQ(failed.error_lines(), 1) << failed.err;
}

// 896x128 on a machine that has memory for one half of it, as it seems.
TEST_F(Upscale, TilesAreTheLastResortAndSaidSo) {
  std::ofstream(path("in.y4m"), std::ios::binary) << make_y4m(480, 32, 2);
  // The models of other tests take so little that halves of frames save nothing.
  // 0.2 GB are less than any of the plans needs, and more than what cannot be saved.
  const std::string nano = "nano";
  const auto planned = [&](const std::string& tiles) {
    const ProgramResult result = run({"info", nano, "--plan", "1920x128", "--device", "cpu", "--precision", "f32",
                                      "--memory-limit", "0.2", "--tiles", tiles, "--json"});
    EXPECT_EQ(result.status, 0) << result.err;
    return json::parse(result.out)["total"].get<double>() / 1e9;
  };
  const auto upscaled = [&](const std::string& output, const std::vector<std::string>& options) {
    std::vector<std::string> words{"upscale", "in.y4m", "-o", output, "--model", nano, "--device", "cpu"};
    words.insert(words.end(), options.begin(), options.end());
    return words;
  };
  const double whole = planned("off"), tiled = planned("2x1");
  ASSERT_LT(tiled, whole);
  const std::vector<std::string> limited{"--precision", "f32", "--json", "--memory-limit",
                                         std::to_string((tiled + whole) / 2)};
  const ProgramResult result = run(upscaled("out.y4m", limited));
  ASSERT_EQ(result.status, 0) << result.err;
  const std::vector<json> events = json_lines(result.out);
  const auto note = std::find_if(events.begin(), events.end(), [](const json& event) {
    return event["event"] == "note" && event["message"].get<std::string>().find("tiles") != std::string::npos;
  });
  ASSERT_NE(note, events.end()) << result.out;
  EXPECT_NE((*note)["message"].get<std::string>().find("2x1 tiles of 1024x128 pixels"), std::string::npos) << *note;
  const auto start =
      std::find_if(events.begin(), events.end(), [](const json& event) { return event["event"] == "start"; });
  ASSERT_NE(start, events.end());
  EXPECT_EQ((*start)["tiles"], "2x1");
  EXPECT_LE((*start)["memory_bytes"], (*start)["memory_available_bytes"]);
  EXPECT_EQ(parse_y4m(read(path("out.y4m"))).luma_means.size(), 2u);

  std::vector<std::string> off = limited;
  off.insert(off.end(), {"--tiles", "off"});
  const ProgramResult refused = run(upscaled("other.y4m", off));
  EXPECT_EQ(refused.status, 1);
  EXPECT_EQ(refused.error_lines(), 1) << refused.err;
  EXPECT_NE(refused.err.find("tiles"), std::string::npos) << refused.err;
  EXPECT_FALSE(std::filesystem::exists(path("other.y4m")));
  // Where there is memory enough they are there only for who asks.
  const ProgramResult whole_frame = run(upscaled("whole.y4m", {}));
  EXPECT_EQ(whole_frame.err.find("tiles"), std::string::npos) << whole_frame.err;
  const ProgramResult asked = run(upscaled("asked.y4m", {"--tiles", "2x1"}));
  EXPECT_EQ(asked.status, 0);
  EXPECT_NE(asked.err.find("2x1 tiles"), std::string::npos) << asked.err;
}

TEST_F(Upscale, BadInputsGiveOneLineAndLeaveNothing) {
  const std::string good = make_y4m(17, 13, 3);
  const std::pair<const char*, std::string> inputs[] = {
      {"empty.y4m", ""},
      {"foreign.y4m", "RIFF and so on"},
      {"zero.y4m", "YUV4MPEG2 W0 H0 F25:1 C444\nFRAME\n"},
      {"huge.y4m", "YUV4MPEG2 W2000000000 H2000000000 F25:1 C444\nFRAME\n"},
      {"frameless.y4m", good.substr(0, good.find('\n') + 1)}};
  std::vector<std::string> left;
  for (const auto& [name, contents] : inputs) {
    std::ofstream(path(name), std::ios::binary) << contents;
    left.emplace_back(name);
  }
  std::sort(left.begin(), left.end());
  for (const auto& [name, contents] : inputs) expect_one_line(run(command(name, "out.y4m")), left);
  expect_one_line(run(command("missing.y4m", "out.y4m")), left);
  expect_one_line(run(command("frameless.y4m", "no/such/folder/out.y4m")), left);
}

TEST_F(Upscale, AFullDiskLeavesNothing) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  // Every write to it fails.
  std::ofstream(path("in.y4m"), std::ios::binary) << make_y4m(17, 13, 3);
  const std::string shell = "'" FLASHVSR_BINARY_DIR "/flashvsr' upscale '" + path("in.y4m").string() +
                            "' -o - --quiet --model '" + model_ + "' > /dev/full 2> '" + path("err").string() + "'";
  const int status = std::system(shell.c_str());
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 1);
  const std::string error = read(path("err"));
  EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 1) << error;
}

// The decoder waits for a pipe that says nothing more: the failed output ends it all the same.
TEST_F(Upscale, AFullDiskEndsAWaitForInput) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  const std::string shell =
      "OMP_WAIT_POLICY=passive '" FLASHVSR_BINARY_DIR "/flashvsr' upscale - -o - --quiet --model '" + model_ +
      "' > /dev/full 2> '" + path("err").string() + "'; echo $? > '" + path("unfinished").string() + "'; mv '" +
      path("unfinished").string() + "' '" + path("status").string() + "'";
  FILE* program = popen(shell.c_str(), "w");
  ASSERT_NE(program, nullptr);
  const std::string clip = make_y4m(17, 13, 30);
  EXPECT_EQ(fwrite(clip.data(), 1, clip.size(), program), clip.size());
  fflush(program);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!std::filesystem::exists(path("status")) && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(read(path("status")), "1\n") << "the program does not end";
  pclose(program);
  const std::string error = read(path("err"));
  EXPECT_NE(error.find("the disk is full"), std::string::npos) << error;
  EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 1) << error;
}

TEST_F(Upscale, UnknownModelsListWhatExists) {
  std::ofstream(path("in.y4m"), std::ios::binary) << make_y4m(17, 13, 1);
  const ProgramResult result = run({"upscale", "in.y4m", "-o", "out.y4m", "--model", "colossal"});
  expect_one_line(result, {"in.y4m"});
  EXPECT_NE(result.err.find("colossal"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("installed: nano"), std::string::npos) << result.err;
}

TEST_F(Upscale, RawFoldersNeedAVariant) {
  std::ofstream(path("in.y4m"), std::ios::binary) << make_y4m(17, 13, 1);
  std::filesystem::create_directory(path("raw"));
  for (const auto& entry : std::filesystem::directory_iterator(golden_set("v1.1"))) {
    if (entry.path().filename() == "config.json" || entry.path().filename() == "golden.safetensors") continue;
    std::filesystem::create_symlink(entry.path(), path("raw") / entry.path().filename());
  }
  const ProgramResult refused = run({"upscale", "in.y4m", "-o", "out.y4m", "--model", "raw/"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_NE(refused.err.find("--variant"), std::string::npos) << refused.err;
  EXPECT_FALSE(std::filesystem::exists(path("out.y4m")));
}

TEST_F(Upscale, CtrlCStopsCleanly) {
  for (const int signal : {SIGINT, SIGTERM}) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    RunningProgram program(command("-", "out.y4m"), folder(), ends[0]);
    close(ends[0]);
    // Enough for the first chunk and then silence: the program works, writes, and waits for more.
    const std::string clip = make_y4m(17, 13, 30);
    ASSERT_EQ(write(ends[1], clip.data(), clip.size()), static_cast<ssize_t>(clip.size()));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (files().empty() && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_FALSE(files().empty()) << "the temporary file never came";
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    kill(program.pid(), signal);
    const ProgramResult result = program.wait();
    close(ends[1]);
    EXPECT_EQ(result.status, 130);
    EXPECT_EQ(files(), std::vector<std::string>{});
    EXPECT_NE(result.err.find("flashvsr: interrupted"), std::string::npos) << result.err;
  }
}

// libgomp reads its settings when it is loaded, so the program has to start itself anew.
TEST_F(Upscale, WaitingThreadsDoNotSpinForLong) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  RunningProgram program(command("-", "out.y4m"), folder(), ends[0], Waiting::as_it_decides);
  close(ends[0]);
  const std::string process = "/proc/" + std::to_string(program.pid());
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  const auto bounded = [&] { return read(process + "/environ").find("GOMP_SPINCOUNT=1000") != std::string::npos; };
  while (!bounded() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_TRUE(bounded());
  EXPECT_EQ(read(process + "/comm"), "flashvsr\n");
  close(ends[1]);
  const ProgramResult result = program.wait();
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("standard input: is empty"), std::string::npos) << result.err;
}

TEST_F(Upscale, ALostReaderIsAnError) {
  std::ofstream(path("in.y4m"), std::ios::binary) << make_y4m(64, 64, 30);
  const std::string shell = "{ '" FLASHVSR_BINARY_DIR "/flashvsr' upscale '" + path("in.y4m").string() +
                            "' -o - --quiet --model '" + model_ + "' 2> '" + path("err").string() + "'; echo $? > '" +
                            path("status").string() + "'; } | true";
  EXPECT_EQ(std::system(shell.c_str()), 0);
  EXPECT_EQ(read(path("status")), "1\n");
  const std::string error = read(path("err"));
  EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 1) << error;
}

}  // namespace
}  // namespace flashvsr::cli::test
