// The C API through the shared library alone.
#include <flashvsr/flashvsr.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int kWidth = 32, kHeight = 32, kScale = 4;
constexpr std::size_t kInputBytes = kWidth * kHeight * 3, kOutputBytes = kInputBytes * kScale * kScale;
constexpr std::ptrdiff_t kInputStride = kWidth * 3, kOutputStride = kInputStride * kScale;

using Frame = std::vector<std::uint8_t>;
using Clip = std::vector<Frame>;

std::string golden(const char* set) { return std::string(FLASHVSR_SOURCE_DIR) + "/tests/golden/" + set; }

flashvsr_model* open_model(const char* set = "attention") {
  flashvsr_model_settings settings = flashvsr_default_model_settings();
  settings.device = FLASHVSR_DEVICE_CPU;
  settings.precision = FLASHVSR_PRECISION_F32;
  flashvsr_model* model = nullptr;
  EXPECT_EQ(flashvsr_model_open(golden(set).c_str(), &settings, &model), FLASHVSR_OK) << flashvsr_last_error();
  return model;
}

// One model for all tests of the process.
flashvsr_model* shared_model() {
  static flashvsr_model* model = open_model();
  return model;
}

flashvsr_stream_settings stream_settings() {
  flashvsr_stream_settings settings = flashvsr_default_stream_settings();
  settings.input_width = kWidth;
  settings.input_height = kHeight;
  return settings;
}

flashvsr_stream* open_stream(const flashvsr_stream_settings& settings, flashvsr_model* model = shared_model()) {
  flashvsr_stream* stream = nullptr;
  EXPECT_EQ(flashvsr_stream_open(model, &settings, &stream), FLASHVSR_OK) << flashvsr_last_error();
  return stream;
}

Clip make_clip(int frames) {
  Clip clip;
  for (int i = 0; i < frames; ++i) {
    Frame frame;
    for (std::size_t j = 0; j < kInputBytes; ++j) {
      frame.push_back(static_cast<std::uint8_t>(128 + 100 * std::sin(0.01 * static_cast<double>(j) + 0.3 * i)));
    }
    clip.push_back(frame);
  }
  return clip;
}

flashvsr_status send(flashvsr_stream* stream, const Frame& frame) {
  return flashvsr_stream_send(stream, frame.data(), kInputStride);
}

// The loop of the header's example.
Clip run(flashvsr_stream* stream, const Clip& clip) {
  Clip output;
  Frame frame(kOutputBytes);
  auto next = clip.begin();
  for (;;) {
    flashvsr_status status = flashvsr_stream_receive(stream, frame.data(), kOutputStride);
    if (status == FLASHVSR_OK) output.push_back(frame);
    if (status == FLASHVSR_END) return output;
    if (status == FLASHVSR_AGAIN) status = next != clip.end() ? send(stream, *next++) : flashvsr_stream_drain(stream);
    if (status < 0) {
      ADD_FAILURE() << flashvsr_last_error();
      return output;
    }
  }
}

// What C code can do to an enumeration.
template <typename Enumeration>
void set_raw(Enumeration& value, int number) {
  std::memcpy(&value, &number, sizeof value);
}

bool error_mentions(const std::string& part) {
  return std::string(flashvsr_last_error()).find(part) != std::string::npos;
}

TEST(Api, KnowsItsVersion) {
  const std::string version = std::to_string(FLASHVSR_VERSION_MAJOR) + "." + std::to_string(FLASHVSR_VERSION_MINOR) +
                              "." + std::to_string(FLASHVSR_VERSION_PATCH);
  EXPECT_EQ(flashvsr_version(), version);
}

TEST(Api, TellsWhatTheModelIs) {
  flashvsr_model_info info{};
  info.struct_size = sizeof info;
  ASSERT_EQ(flashvsr_model_get_info(shared_model(), &info), FLASHVSR_OK);
  EXPECT_STREQ(info.name, "attention");
  EXPECT_STREQ(info.variant, "v1.1");
  EXPECT_STREQ(info.device, "cpu");
  EXPECT_STREQ(info.precision, "f32");
  EXPECT_EQ(info.has_tiny_decoder, 1);
  EXPECT_EQ(info.has_full_decoder, 0);
  EXPECT_EQ(info.text_dim, 32);
  EXPECT_EQ(info.local_range, 3);
  EXPECT_EQ(info.kv_chunks, 3);
  EXPECT_EQ(info.scale, 4);
  EXPECT_GT(info.parameters, 100'000);
  info.struct_size = 8;
  EXPECT_EQ(flashvsr_model_get_info(shared_model(), &info), FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(flashvsr_model_get_info(nullptr, &info), FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(flashvsr_model_get_info(shared_model(), nullptr), FLASHVSR_ERROR_INVALID_ARGUMENT);
}

TEST(Api, RefusesModelsItCannotOpen) {
  flashvsr_model* model = nullptr;
  const flashvsr_model_settings defaults = flashvsr_default_model_settings();
  EXPECT_EQ(flashvsr_model_open("/", &defaults, nullptr), FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(flashvsr_model_open("", &defaults, &model), FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(flashvsr_model_open("./no/such/file.safetensors", &defaults, &model), FLASHVSR_ERROR_IO);
  EXPECT_TRUE(error_mentions("./no/such/file.safetensors"));
  EXPECT_EQ(flashvsr_model_open((std::string(FLASHVSR_SOURCE_DIR) + "/README.md").c_str(), &defaults, &model),
            FLASHVSR_ERROR_FORMAT);
  setenv("FLASHVSR_MODEL_PATH", "/first/place:/second/place", 1);
  EXPECT_EQ(flashvsr_model_open("no-such-model", nullptr, &model), FLASHVSR_ERROR_IO);
  EXPECT_TRUE(error_mentions("/first/place") && error_mentions("/second/place") && error_mentions("no-such-model"));
  unsetenv("FLASHVSR_MODEL_PATH");
  EXPECT_EQ(model, nullptr);

  const std::string path = golden("attention");
  const auto open_with = [&](void (*change)(flashvsr_model_settings&)) {
    flashvsr_model_settings settings = defaults;
    change(settings);
    return flashvsr_model_open(path.c_str(), &settings, &model);
  };
  EXPECT_EQ(open_with([](flashvsr_model_settings& s) { s.struct_size = 0; }), FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(open_with([](flashvsr_model_settings& s) { s.struct_size += 8; }), FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(open_with([](flashvsr_model_settings& s) { s.threads = -1; }), FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(open_with([](flashvsr_model_settings& s) { set_raw(s.device, 3); }), FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(open_with([](flashvsr_model_settings& s) { s.device = FLASHVSR_DEVICE_CUDA, s.device_index = -1; }),
            FLASHVSR_ERROR_INVALID_ARGUMENT);
  for (const auto choose : {+[](flashvsr_model_settings& s) { s.device = FLASHVSR_DEVICE_CPU, s.device_index = 1; },
                            +[](flashvsr_model_settings& s) { s.device = FLASHVSR_DEVICE_AUTO, s.device_index = 1; }}) {
    EXPECT_EQ(open_with(choose), FLASHVSR_ERROR_INVALID_ARGUMENT);
    EXPECT_NE(std::string(flashvsr_last_error()).find("device_index is 1"), std::string::npos) << flashvsr_last_error();
  }
  EXPECT_EQ(open_with([](flashvsr_model_settings& s) { set_raw(s.precision, 3); }), FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(open_with([](flashvsr_model_settings& s) { set_raw(s.variant, 3); }), FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(open_with([](flashvsr_model_settings& s) { s.variant = FLASHVSR_VARIANT_V1; }),
            FLASHVSR_ERROR_INVALID_ARGUMENT);  // its configuration says v1.1
  EXPECT_EQ(model, nullptr);
}

TEST(Api, FindsModelsByName) {
  setenv("FLASHVSR_MODEL_PATH", golden("").c_str(), 1);
  flashvsr_model* model = nullptr;
  EXPECT_EQ(flashvsr_model_open("v1.1", nullptr, &model), FLASHVSR_OK) << flashvsr_last_error();
  unsetenv("FLASHVSR_MODEL_PATH");
  flashvsr_model_close(model);
}

TEST(Api, RefusesSettingsOutOfRange) {
  flashvsr_stream* stream = nullptr;
  const auto open_with = [&](void (*change)(flashvsr_stream_settings&)) {
    flashvsr_stream_settings settings = stream_settings();
    change(settings);
    return flashvsr_stream_open(shared_model(), &settings, &stream);
  };
  constexpr auto kInvalid = FLASHVSR_ERROR_INVALID_ARGUMENT;
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.struct_size = 4; }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.input_width = 0; }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.input_height = std::numeric_limits<int>::min(); }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.output_width = 100; }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.output_width = -1, s.output_height = 5; }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.scale = 0; }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.scale = std::nan(""); }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.scale = 1e-3; }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.scale = 1e300; }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.input_width = s.input_height = 1 << 30; }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { set_raw(s.decoder, 2); }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { set_raw(s.color_fix, 9); }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { set_raw(s.local_window, 9); }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.sparse_ratio = std::nan(""); }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.local_range = -1; }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.kv_chunks = -1; }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.tile_columns = 2; }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.tile_columns = -1, s.tile_rows = 1; }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.tile_columns = s.tile_rows = 2; }), kInvalid);
  static const float prompt[32] = {};
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.prompt = prompt; }), kInvalid);
  static const float infinite[32] = {std::numeric_limits<float>::infinity()};
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.prompt = infinite, s.prompt_tokens = 1; }), kInvalid);
  EXPECT_EQ(open_with([](flashvsr_stream_settings& s) { s.decoder = FLASHVSR_DECODER_FULL; }),
            FLASHVSR_ERROR_UNSUPPORTED);
  EXPECT_TRUE(error_mentions("Wan2.1_VAE.pth"));
  EXPECT_EQ(stream, nullptr);
  const flashvsr_stream_settings settings = stream_settings();
  EXPECT_EQ(flashvsr_stream_open(nullptr, &settings, &stream), kInvalid);
  EXPECT_EQ(flashvsr_stream_open(shared_model(), nullptr, &stream), kInvalid);
  EXPECT_EQ(flashvsr_stream_open(shared_model(), &settings, nullptr), kInvalid);
}

TEST(Api, RoundsTheOutputSize) {
  flashvsr_stream_settings settings = stream_settings();
  const auto size_of = [&] {
    flashvsr_stream* stream = open_stream(settings);
    int width = 0, height = 0;
    EXPECT_EQ(flashvsr_stream_get_size(stream, &width, &height), FLASHVSR_OK);
    flashvsr_stream_close(stream);
    return std::pair(width, height);
  };
  EXPECT_EQ(size_of(), std::pair(128, 128));
  settings.input_width = 17, settings.input_height = 13, settings.scale = 1.5;
  EXPECT_EQ(size_of(), std::pair(26, 20));  // 25.5 and 19.5: halves go up
  settings.output_width = 100, settings.output_height = 7;
  EXPECT_EQ(size_of(), std::pair(100, 7));
}

TEST(Api, PlansMemory) {
  flashvsr_stream* stream = open_stream(stream_settings());
  flashvsr_memory memory{};
  EXPECT_EQ(flashvsr_stream_get_memory(stream, &memory), FLASHVSR_ERROR_INVALID_ARGUMENT);
  memory.struct_size = sizeof memory;
  EXPECT_EQ(flashvsr_stream_get_memory(nullptr, &memory), FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(flashvsr_stream_get_memory(stream, nullptr), FLASHVSR_ERROR_INVALID_ARGUMENT);
  ASSERT_EQ(flashvsr_stream_get_memory(stream, &memory), FLASHVSR_OK);
  EXPECT_EQ(memory.needed, memory.weights + memory.kv_cache + memory.state + memory.working);
  EXPECT_GT(memory.kv_cache, 0U);
  EXPECT_LE(memory.needed, memory.available);
  flashvsr_stream_close(stream);
}

// Here because they are asked for; limits are tested with streams.
TEST(Api, CutsFramesIntoTilesWithAWarning) {
  struct Warnings {
    std::vector<std::string> messages;
    static void take(void* self, flashvsr_log_level level, const char* message) {
      if (level == FLASHVSR_LOG_WARNING) static_cast<Warnings*>(self)->messages.emplace_back(message);
    }
  } warnings;
  flashvsr_stream_settings settings = stream_settings();
  settings.input_width = 224, settings.input_height = 32;
  flashvsr_set_log_callback(&Warnings::take, &warnings);
  flashvsr_stream* stream = open_stream(settings);
  flashvsr_memory memory{};
  memory.struct_size = sizeof memory;
  ASSERT_EQ(flashvsr_stream_get_memory(stream, &memory), FLASHVSR_OK);
  EXPECT_EQ(std::pair(memory.tile_columns, memory.tile_rows), std::pair(1, 1));
  EXPECT_EQ(std::pair(memory.tile_width, memory.tile_height), std::pair(896, 128));
  EXPECT_GT(memory.decoder_slice, 0U);
  flashvsr_stream_close(stream);
  EXPECT_TRUE(warnings.messages.empty());

  settings.tile_columns = 2, settings.tile_rows = 1;
  stream = open_stream(settings);
  ASSERT_EQ(flashvsr_stream_get_memory(stream, &memory), FLASHVSR_OK);
  EXPECT_EQ(std::pair(memory.tile_columns, memory.tile_rows), std::pair(2, 1));
  EXPECT_EQ(std::pair(memory.tile_width, memory.tile_height), std::pair(512, 128));
  flashvsr_stream_close(stream);
  flashvsr_set_log_callback(nullptr, nullptr);
  ASSERT_EQ(warnings.messages.size(), 1U);
  EXPECT_NE(warnings.messages[0].find("2x1 tiles of 512x128 pixels"), std::string::npos) << warnings.messages[0];
}

TEST(Api, RefusesNullAndWrongFrames) {
  flashvsr_stream* stream = open_stream(stream_settings());
  Frame frame(kOutputBytes);
  std::size_t size = 0;
  constexpr auto kInvalid = FLASHVSR_ERROR_INVALID_ARGUMENT;
  EXPECT_EQ(flashvsr_stream_send(nullptr, frame.data(), kInputStride), kInvalid);
  EXPECT_EQ(flashvsr_stream_send(stream, nullptr, kInputStride), kInvalid);
  EXPECT_EQ(flashvsr_stream_send(stream, frame.data(), kInputStride - 1), kInvalid);
  EXPECT_EQ(flashvsr_stream_receive(nullptr, frame.data(), kOutputStride), kInvalid);
  EXPECT_EQ(flashvsr_stream_drain(nullptr), kInvalid);
  EXPECT_EQ(flashvsr_stream_reset(nullptr), kInvalid);
  EXPECT_EQ(flashvsr_stream_save(nullptr, nullptr, &size), kInvalid);
  EXPECT_EQ(flashvsr_stream_save(stream, nullptr, nullptr), kInvalid);
  EXPECT_EQ(flashvsr_stream_restore(stream, nullptr, 0), kInvalid);
  EXPECT_EQ(flashvsr_stream_get_size(nullptr, nullptr, nullptr), kInvalid);
  flashvsr_stream_close(stream);
  flashvsr_stream_close(nullptr);
  flashvsr_model_close(nullptr);
}

TEST(Api, SendsReceivesAndDrains) {
  const Clip clip = make_clip(34);
  flashvsr_stream* stream = open_stream(stream_settings());
  const Clip expected = run(stream, clip);
  EXPECT_EQ(expected.size(), clip.size());
  EXPECT_EQ(send(stream, clip[0]), FLASHVSR_ERROR_INVALID_ARGUMENT);  // drained

  ASSERT_EQ(flashvsr_stream_reset(stream), FLASHVSR_OK);
  Frame frame(kOutputBytes);
  for (int i = 0; i < 25; ++i) {
    EXPECT_EQ(flashvsr_stream_receive(stream, frame.data(), kOutputStride), FLASHVSR_AGAIN);
    ASSERT_EQ(send(stream, clip[static_cast<std::size_t>(i)]), FLASHVSR_OK);
  }
  for (int i = 25; i < 32; ++i) ASSERT_EQ(send(stream, clip[static_cast<std::size_t>(i)]), FLASHVSR_OK);
  EXPECT_EQ(send(stream, clip[32]), FLASHVSR_AGAIN);
  for (std::size_t i = 0; i < 21; ++i) {
    ASSERT_EQ(flashvsr_stream_receive(stream, frame.data(), kOutputStride), FLASHVSR_OK);
    EXPECT_TRUE(frame == expected[i]) << i;
  }
  EXPECT_EQ(flashvsr_stream_receive(stream, frame.data(), kOutputStride), FLASHVSR_AGAIN);
  EXPECT_EQ(send(stream, clip[32]), FLASHVSR_OK);
  EXPECT_EQ(send(stream, clip[33]), FLASHVSR_OK);
  EXPECT_EQ(flashvsr_stream_drain(stream), FLASHVSR_OK);
  EXPECT_EQ(flashvsr_stream_drain(stream), FLASHVSR_OK);
  for (std::size_t i = 21; i < clip.size(); ++i) {
    ASSERT_EQ(flashvsr_stream_receive(stream, frame.data(), kOutputStride), FLASHVSR_OK);
    EXPECT_TRUE(frame == expected[i]) << i;
  }
  EXPECT_EQ(flashvsr_stream_receive(stream, frame.data(), kOutputStride), FLASHVSR_END);
  EXPECT_EQ(flashvsr_stream_receive(stream, frame.data(), kOutputStride), FLASHVSR_END);
  flashvsr_stream_close(stream);
}

struct Progress {
  std::vector<int64_t> calls;
  int64_t cancel_at = std::numeric_limits<int64_t>::max();
};

int on_progress(void* user, int64_t frames_done) {
  auto* progress = static_cast<Progress*>(user);
  progress->calls.push_back(frames_done);
  return frames_done >= progress->cancel_at ? 1 : 0;
}

TEST(Api, ReportsProgressAndCancels) {
  Progress progress;
  flashvsr_stream_settings settings = stream_settings();
  settings.progress = on_progress;
  settings.progress_user = &progress;
  flashvsr_stream* stream = open_stream(settings);
  const Clip clip = make_clip(30);
  const Clip expected = run(stream, clip);
  ASSERT_FALSE(progress.calls.empty());
  EXPECT_EQ(progress.calls.back(), 30);
  for (std::size_t i = 1; i < progress.calls.size(); ++i) {
    EXPECT_GT(progress.calls[i], progress.calls[i - 1]);
    EXPECT_LE(progress.calls[i], progress.calls[i - 1] + 4);
  }

  flashvsr_stream_reset(stream);
  progress.cancel_at = 9;
  for (std::size_t i = 0; i < 24; ++i) ASSERT_EQ(send(stream, clip[i]), FLASHVSR_OK);
  EXPECT_EQ(send(stream, clip[24]), FLASHVSR_ERROR_CANCELLED);
  Frame frame(kOutputBytes);
  EXPECT_EQ(flashvsr_stream_receive(stream, frame.data(), kOutputStride), FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(send(stream, clip[25]), FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_TRUE(error_mentions("reset"));
  progress.cancel_at = std::numeric_limits<int64_t>::max();
  ASSERT_EQ(flashvsr_stream_reset(stream), FLASHVSR_OK);
  EXPECT_TRUE(run(stream, clip) == expected);
  flashvsr_stream_close(stream);
}

TEST(Api, TakesExternalNoise) {
  flashvsr_stream_settings settings = stream_settings();
  settings.noise = [](void* user, int64_t latent, int height, int width, float* values) {
    auto* latents = static_cast<std::vector<int64_t>*>(user);
    latents->push_back(latent);
    EXPECT_EQ(height, 16);
    EXPECT_EQ(width, 16);
    std::fill(values, values + 16 * height * width, 0.25f);
    return latent > 7 ? 1 : 0;
  };
  std::vector<int64_t> latents;
  settings.noise_user = &latents;
  flashvsr_stream* stream = open_stream(settings);
  EXPECT_EQ(run(stream, make_clip(29)).size(), 29u);
  EXPECT_EQ(latents, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
  flashvsr_stream_reset(stream);
  const Clip clip = make_clip(41);
  Frame frame(kOutputBytes);
  flashvsr_status status = FLASHVSR_OK;
  for (std::size_t i = 0; i < clip.size() && status >= 0; ++i) {
    status = send(stream, clip[i]);
    while (status >= 0 && flashvsr_stream_receive(stream, frame.data(), kOutputStride) == FLASHVSR_OK) {
    }
  }
  EXPECT_EQ(status, FLASHVSR_ERROR_CANCELLED);
  flashvsr_stream_close(stream);
}

TEST(Api, TakesAnotherPrompt) {
  flashvsr_stream_settings settings = stream_settings();
  flashvsr_stream* stream = open_stream(settings);
  const Clip clip = make_clip(1), usual = run(stream, clip);
  flashvsr_stream_close(stream);
  {
    // Read during open only: the memory may go afterwards.
    const std::vector<float> prompt(3 * 32, 2.0f);
    settings.prompt = prompt.data();
    settings.prompt_tokens = 3;
    stream = open_stream(settings);
  }
  EXPECT_FALSE(run(stream, clip) == usual);
  flashvsr_stream_close(stream);
}

struct Reentrant {
  flashvsr_stream* stream = nullptr;
  flashvsr_status sent = FLASHVSR_OK, received = FLASHVSR_OK;
};

TEST(Api, CallbacksMustNotCallBack) {
  Reentrant reentrant;
  flashvsr_stream_settings settings = stream_settings();
  settings.progress_user = &reentrant;
  settings.progress = [](void* user, int64_t) {
    auto* state = static_cast<Reentrant*>(user);
    Frame frame(kOutputBytes);
    state->sent = send(state->stream, frame);
    state->received = flashvsr_stream_receive(state->stream, frame.data(), kOutputStride);
    return 0;
  };
  reentrant.stream = open_stream(settings);
  EXPECT_EQ(run(reentrant.stream, make_clip(2)).size(), 2u);
  EXPECT_EQ(reentrant.sent, FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(reentrant.received, FLASHVSR_ERROR_INVALID_ARGUMENT);
  flashvsr_stream_close(reentrant.stream);
}

TEST(Api, SavesAndRestores) {
  const Clip clip = make_clip(36);
  flashvsr_stream* stream = open_stream(stream_settings());
  const Clip expected = run(stream, clip);
  flashvsr_stream_reset(stream);
  Clip output;
  Frame frame(kOutputBytes);
  for (std::size_t i = 0; i < 26; ++i) {
    ASSERT_EQ(send(stream, clip[i]), FLASHVSR_OK);
    while (flashvsr_stream_receive(stream, frame.data(), kOutputStride) == FLASHVSR_OK) output.push_back(frame);
  }
  std::size_t size = 0;
  ASSERT_EQ(flashvsr_stream_save(stream, nullptr, &size), FLASHVSR_OK);
  std::vector<std::uint8_t> state(size);
  std::size_t too_small = size - 1;
  EXPECT_EQ(flashvsr_stream_save(stream, state.data(), &too_small), FLASHVSR_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(too_small, size);
  ASSERT_EQ(flashvsr_stream_save(stream, state.data(), &size), FLASHVSR_OK);
  flashvsr_stream_close(stream);

  stream = open_stream(stream_settings());
  EXPECT_EQ(flashvsr_stream_restore(stream, state.data(), size - 1), FLASHVSR_ERROR_FORMAT);
  ASSERT_EQ(flashvsr_stream_restore(stream, state.data(), size), FLASHVSR_OK) << flashvsr_last_error();
  for (Frame& rest : run(stream, Clip(clip.begin() + 26, clip.end()))) output.push_back(std::move(rest));
  EXPECT_TRUE(output == expected);
  flashvsr_stream_close(stream);
}

TEST(Api, StreamsOfOneModelTakeTurns) {
  flashvsr_stream_settings settings[2] = {stream_settings(), stream_settings()};
  settings[1].seed = 9;
  const Clip clip = make_clip(34);
  Clip serial[2], parallel[2];
  for (int i = 0; i < 2; ++i) {
    flashvsr_stream* stream = open_stream(settings[i]);
    serial[i] = run(stream, clip);
    flashvsr_stream_close(stream);
  }
  std::thread threads[2];
  for (int i = 0; i < 2; ++i) {
    threads[i] = std::thread([&, i] {
      flashvsr_stream* stream = open_stream(settings[i]);
      parallel[i] = run(stream, clip);
      flashvsr_stream_close(stream);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(parallel[0] == serial[0]);
  EXPECT_TRUE(parallel[1] == serial[1]);
  EXPECT_FALSE(serial[0] == serial[1]);
}

TEST(Api, AModelMayBeClosedBeforeItsStreams) {
  flashvsr_model* model = open_model();
  flashvsr_stream* stream = open_stream(stream_settings(), model);
  flashvsr_model_close(model);
  EXPECT_EQ(run(stream, make_clip(2)).size(), 2u);
  flashvsr_stream_close(stream);
}

TEST(Api, ErrorsBelongToTheirThread) {
  EXPECT_EQ(flashvsr_stream_drain(nullptr), FLASHVSR_ERROR_INVALID_ARGUMENT);
  const std::string message = flashvsr_last_error();
  EXPECT_FALSE(message.empty());
  std::string other = "not set";
  std::thread([&] { other = flashvsr_last_error(); }).join();
  EXPECT_EQ(other, "");
  EXPECT_EQ(flashvsr_last_error(), message);
}

TEST(Api, Logs) {
  std::vector<std::string> messages;
  flashvsr_set_log_callback(
      [](void* user, flashvsr_log_level, const char* message) {
        static_cast<std::vector<std::string>*>(user)->emplace_back(message);
      },
      &messages);
  flashvsr_model_close(open_model());
  flashvsr_set_log_callback(nullptr, nullptr);
  flashvsr_model_close(open_model());
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_NE(messages[0].find("attention"), std::string::npos);
}

// ---------------------------------------------------------------------------------------------------------- images

struct ImageMemory {
  ImageMemory(int width, int height) : luma(static_cast<std::size_t>(width * height)), chroma(luma.size() / 2) {
    image = flashvsr_default_image();
    image.luma = luma.data();
    image.chroma = chroma.data();
    image.luma_stride = image.chroma_stride = width;
  }
  Frame luma, chroma;
  flashvsr_image image;
};

// Grey frames are the same as RGB and as images of the full range.
TEST(Api, TakesAndGivesImages) {
  Clip clip;
  for (int i = 0; i < 30; ++i) clip.emplace_back(kInputBytes, static_cast<std::uint8_t>(60 + 5 * i));
  flashvsr_stream* plain = open_stream(stream_settings());
  const Clip expected = run(plain, clip);
  flashvsr_stream_close(plain);

  flashvsr_stream_settings settings = stream_settings();
  settings.image_input = settings.image_output = 1;
  flashvsr_stream* stream = open_stream(settings);
  ImageMemory input(kWidth, kHeight), output(kWidth * kScale, kHeight * kScale);
  input.image.full_range = output.image.full_range = 1;
  std::size_t sent = 0, received = 0;
  for (;;) {
    flashvsr_status status = flashvsr_stream_receive_image(stream, &output.image);
    if (status == FLASHVSR_END) break;
    if (status == FLASHVSR_OK) {
      const Frame& frame = expected.at(received++);
      for (std::size_t i = 0; i < output.luma.size(); ++i) {
        const double level = 0.2126 * frame[3 * i] + 0.7152 * frame[3 * i + 1] + 0.0722 * frame[3 * i + 2];
        ASSERT_NEAR(output.luma[i], level, 0.5 + 1e-3) << received << ", " << i;
      }
      continue;
    }
    ASSERT_EQ(status, FLASHVSR_AGAIN) << flashvsr_last_error();
    if (sent == clip.size()) {
      ASSERT_EQ(flashvsr_stream_drain(stream), FLASHVSR_OK) << flashvsr_last_error();
      continue;
    }
    std::fill(input.luma.begin(), input.luma.end(), clip[sent++][0]);
    std::fill(input.chroma.begin(), input.chroma.end(), std::uint8_t{128});
    ASSERT_EQ(flashvsr_stream_send_image(stream, &input.image), FLASHVSR_OK) << flashvsr_last_error();
  }
  EXPECT_EQ(received, clip.size());
  flashvsr_stream_close(stream);
}

TEST(Api, RefusesImagesThatAreNone) {
  flashvsr_stream_settings settings = stream_settings();
  settings.image_input = settings.image_output = 1;
  flashvsr_stream* stream = open_stream(settings);
  ImageMemory input(kWidth, kHeight);
  const auto send_with = [&](void (*change)(flashvsr_image&)) {
    flashvsr_image image = input.image;
    change(image);
    return flashvsr_stream_send_image(stream, &image);
  };
  constexpr auto kInvalid = FLASHVSR_ERROR_INVALID_ARGUMENT;
  EXPECT_EQ(flashvsr_stream_send_image(stream, nullptr), kInvalid);
  EXPECT_EQ(flashvsr_stream_receive_image(stream, nullptr), kInvalid);
  EXPECT_EQ(flashvsr_stream_send_image(nullptr, &input.image), kInvalid);
  EXPECT_EQ(send_with([](flashvsr_image& image) { image.struct_size = 8; }), kInvalid);
  EXPECT_TRUE(error_mentions("flashvsr_default_image"));
  EXPECT_EQ(send_with([](flashvsr_image& image) { set_raw(image.format, 2); }), kInvalid);
  EXPECT_EQ(send_with([](flashvsr_image& image) { set_raw(image.siting, -1); }), kInvalid);
  EXPECT_EQ(send_with([](flashvsr_image& image) { image.chroma = nullptr; }), kInvalid);
  EXPECT_EQ(send_with([](flashvsr_image& image) { image.luma_stride = kWidth - 1; }), kInvalid);
  EXPECT_EQ(send_with([](flashvsr_image& image) { image.format = FLASHVSR_IMAGE_P010; }), kInvalid);
  EXPECT_EQ(send_with([](flashvsr_image& image) { image.matrix = 14; }), FLASHVSR_ERROR_UNSUPPORTED);
  EXPECT_EQ(send_with([](flashvsr_image&) {}), FLASHVSR_OK);
  flashvsr_stream_close(stream);
  stream = open_stream(stream_settings());
  EXPECT_EQ(send_with([](flashvsr_image&) {}), kInvalid);
  EXPECT_TRUE(error_mentions("image_input"));
  flashvsr_stream_close(stream);
}

}  // namespace
