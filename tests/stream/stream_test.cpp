#include "stream/stream.h"

#include "stream_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace flashvsr::stream {
namespace {

constexpr std::int64_t kWidth = 32, kHeight = 32;  // x4: one block of 128 x 128

// Every frame must be nearest to its own LR frame, among all others that differ from it.
void expect_frames_in_place(const TestModel& model, const StreamSettings& settings, const Clip& clip,
                            const Clip& output) {
  ASSERT_EQ(output.size(), clip.size());
  const Clip reference = upsampled(model, clip, settings);
  const std::int64_t width = settings.output_width, height = settings.output_height;
  for (std::size_t i = 0; i < output.size(); ++i) {
    ASSERT_EQ(output[i].size(), static_cast<std::size_t>(width * height * 3));
    const double own = coarse_distance(output[i], reference[i], width, height);
    for (std::size_t j = i < 3 ? 0 : i - 3; j < std::min(output.size(), i + 4); ++j) {
      if (j == i) continue;
      EXPECT_LT(own, coarse_distance(output[i], reference[j], width, height)) << i << " against " << j;
    }
  }
}

ErrorCode code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return ErrorCode::internal;
}

class FrameCounts : public testing::TestWithParam<std::int64_t> {};

TEST_P(FrameCounts, AsManyOutAsInEachInItsPlace) {
  const StreamSettings settings = make_settings(kWidth, kHeight, 4);
  const Clip clip = wave_clip(GetParam(), kWidth, kHeight);
  expect_frames_in_place(attention_model(), settings, clip, run(attention_model(), settings, clip));
}

INSTANTIATE_TEST_SUITE_P(Stream, FrameCounts, testing::Values(1, 2, 5, 20, 21, 24, 25, 29, 30, 64));

TEST(Stream, AShortClipIsTheStartOfTheClipWithItsLastFrameRepeated) {
  const StreamSettings settings = make_settings(kWidth, kHeight, 4);
  for (const std::int64_t frames : {1, 21, 25}) {
    const Clip clip = wave_clip(frames, kWidth, kHeight);
    Clip padded = clip;
    padded.resize(static_cast<std::size_t>(padded_frame_count(frames)), clip.back());
    Stream stream(attention_model().networks, settings);
    Clip expected = send_all(stream, padded);
    ASSERT_GE(expected.size(), clip.size());
    expected.resize(clip.size());
    EXPECT_TRUE(run(attention_model(), settings, clip) == expected) << frames;
  }
}

// To give memory back may take long, for which finished frames must not wait; but it does not stay after the last one.
TEST(Stream, ForgetsWhenTheLastFrameHasBeenTaken) {
  const StreamSettings settings = make_settings(kWidth, kHeight, 4);
  Stream stream(attention_model().networks, settings);
  const Clip clip = wave_clip(21, kWidth, kHeight);
  for (const Frame& frame : clip) ASSERT_TRUE(stream.send(frame.data(), kWidth * 3));
  stream.drain();
  Frame output(static_cast<std::size_t>(settings.output_width * settings.output_height * 3));
  for (std::size_t i = 0; i < clip.size(); ++i) {
    EXPECT_FALSE(stream.state().tiles.empty()) << i;
    ASSERT_EQ(stream.receive(output.data(), settings.output_width * 3), Received::frame);
  }
  EXPECT_TRUE(stream.state().tiles.empty());
  EXPECT_EQ(stream.receive(output.data(), settings.output_width * 3), Received::end);
}

TEST(Stream, NoFramesGiveNone) {
  Stream stream(attention_model().networks, make_settings(kWidth, kHeight, 4));
  EXPECT_EQ(stream.receive(nullptr, 0), Received::again);
  stream.drain();
  EXPECT_EQ(stream.receive(nullptr, 0), Received::end);
}

TEST(Stream, KeepsTheDocumentedDelay) {
  Stream stream(attention_model().networks, make_settings(kWidth, kHeight, 4));
  for (std::int64_t i = 0; i < 49; ++i) {
    const std::size_t received = send_all(stream, {wave_frame(i, kWidth, kHeight)}).size();
    EXPECT_EQ(received, i == 24 ? 21u : (i > 24 && i % 8 == 0 ? 8u : 0u)) << i;
  }
}

struct Size {
  std::int64_t width, height;
  double scale;
};

class Sizes : public testing::TestWithParam<Size> {};

// On a few pixels a decoder of random weights drowns the low band, so every frame is followed instead: what comes out
// must be the visible area of the decoded frame, its colours fixed by the very LR frame.
TEST_P(Sizes, AnySizeAndScale) {
  const auto [width, height, scale] = GetParam();
  const StreamSettings settings = make_settings(width, height, scale);
  const Clip clip = wave_clip(2, width, height);
  const Clip reference = upsampled(attention_model(), clip, settings);
  ops::Operations& operations = *attention_model().operations;
  Clip expected;
  StreamHooks hooks;
  hooks.decoded = [&](std::int64_t frame, const Tensor& video) {
    ASSERT_EQ(frame, static_cast<std::int64_t>(expected.size()));
    const Shape shape{1, settings.output_height, settings.output_width, 3};
    ASSERT_EQ(video.shape(), shape);
    const Tensor lr = allocate_host(shape, DType::u8);
    std::copy(reference.at(expected.size()).begin(), reference.at(expected.size()).end(),
              lr.mutable_data<std::uint8_t>());
    const Tensor bytes = operations.to_host(operations.to_bytes(operations.wavelet(video, operations.from_host(lr))));
    expected.emplace_back(bytes.data<std::uint8_t>(), bytes.data<std::uint8_t>() + bytes.elements());
  };
  Stream stream(attention_model().networks, settings);
  stream.set_hooks(hooks);
  const Clip output = run(stream, clip);
  EXPECT_EQ(output.size(), 2u);
  EXPECT_TRUE(output == expected);
}

INSTANTIATE_TEST_SUITE_P(Stream, Sizes,
                         testing::Values(Size{17, 13, 1}, Size{17, 13, 1.5}, Size{17, 13, 2}, Size{17, 13, 3},
                                         Size{17, 13, 4}, Size{100, 66, 1.5}, Size{100, 66, 4}, Size{128, 40, 1},
                                         Size{40, 131, 1}, Size{300, 200, 0.4}));

TEST(Stream, OnePixelIsAFrame) {
  const StreamSettings settings = make_settings(1, 1, 1);
  const Clip output = run(attention_model(), settings, {{10, 20, 30}});
  ASSERT_EQ(output.size(), 1u);
  EXPECT_EQ(output[0].size(), 3u);
}

TEST(Stream, DoesNotResampleAtScaleOne) {
  const StreamSettings settings = make_settings(128, 128, 1);
  Stream stream(attention_model().networks, settings);
  const Clip clip = wave_clip(1, 128, 128);
  send_all(stream, clip);
  const Tensor seen = attention_model().operations->to_host(stream.state().pending.front());
  EXPECT_EQ(std::memcmp(seen.raw(), clip[0].data(), clip[0].size()), 0);
}

// A bright last column fills the padding. If that counted, the mean of the visible area would miss by tens of levels.
TEST(Stream, ColourStatisticsAreThoseOfTheVisibleArea) {
  StreamSettings settings = make_settings(20, 32, 2);
  settings.color_fix = ColorFix::adain;
  Frame frame = wave_frame(0, 20, 32);
  for (std::size_t i = 0; i < frame.size(); ++i)
    frame[i] = static_cast<std::uint8_t>((i / 3) % 20 == 19 ? 250 : 90 + frame[i] / 8);
  Stream stream(attention_model().networks, settings);
  double before_bytes = 0;
  StreamHooks hooks;
  hooks.color_fixed = [&](std::int64_t, const Tensor& video) {
    const Tensor host = attention_model().operations->to_host(video);
    for (std::int64_t i = 0; i < host.elements(); ++i) before_bytes += host.data<float>()[i];
    before_bytes /= static_cast<double>(host.elements());
  };
  stream.set_hooks(hooks);
  const Clip output = run(stream, {frame});
  const Clip reference = upsampled(attention_model(), {frame}, settings);
  const auto mean = [](const Frame& x) {
    double sum = 0;
    for (const std::uint8_t value : x) sum += value;
    return sum / static_cast<double>(x.size());
  };
  EXPECT_EQ(output[0].size(), reference[0].size());
  // Clipping to the range moves the mean a little; rounding to bytes by half a level at most.
  EXPECT_NEAR(mean(output[0]), mean(reference[0]), 4.0);
  EXPECT_NEAR(mean(output[0]), (before_bytes + 1) * 127.5, 0.5);
}

TEST(Stream, TheOrderOfCallsDoesNotMatter) {
  const StreamSettings settings = make_settings(kWidth, kHeight, 4);
  const Clip clip = wave_clip(45, kWidth, kHeight);
  const Clip expected = run(attention_model(), settings, clip);

  // Receives only when a frame is refused.
  Stream late(attention_model().networks, settings);
  Clip output;
  std::size_t refusals = 0;
  for (const Frame& frame : clip) {
    while (!late.send(frame.data(), kWidth * 3)) {
      ++refusals;
      append(output, receive_all(late));
    }
  }
  late.drain();
  append(output, receive_all(late));
  EXPECT_TRUE(output == expected);
  EXPECT_EQ(refusals, 2u);  // chunks 1 and 2 find frames waiting

  // Receives one frame before every send.
  Stream slow(attention_model().networks, settings);
  output.clear();
  Frame one(expected[0].size());
  for (const Frame& frame : clip) {
    do {
      if (slow.receive(one.data(), settings.output_width * 3) == Received::frame) output.push_back(one);
    } while (!slow.send(frame.data(), kWidth * 3));
  }
  slow.drain();
  append(output, receive_all(slow));
  EXPECT_TRUE(output == expected);
}

TEST(Stream, RowsMayLieApart) {
  const StreamSettings settings = make_settings(kWidth, kHeight, 4);
  const Clip clip = wave_clip(1, kWidth, kHeight);
  const Clip expected = run(attention_model(), settings, clip);
  const std::ptrdiff_t input_stride = kWidth * 3 + 5, output_stride = settings.output_width * 3 + 7;
  Frame input(static_cast<std::size_t>(input_stride * kHeight), 77);
  for (std::int64_t y = 0; y < kHeight; ++y) {
    std::memcpy(&input[static_cast<std::size_t>(y * input_stride)], &clip[0][static_cast<std::size_t>(y * kWidth * 3)],
                kWidth * 3);
  }
  Stream stream(attention_model().networks, settings);
  ASSERT_TRUE(stream.send(input.data(), input_stride));
  stream.drain();
  Frame output(static_cast<std::size_t>(output_stride * settings.output_height), 123);
  ASSERT_EQ(stream.receive(output.data(), output_stride), Received::frame);
  for (std::int64_t y = 0; y < settings.output_height; ++y) {
    const auto row = static_cast<std::size_t>(settings.output_width * 3);
    EXPECT_EQ(std::memcmp(&output[static_cast<std::size_t>(y * output_stride)],
                          &expected[0][static_cast<std::size_t>(y) * row], row),
              0);
    EXPECT_EQ(output[static_cast<std::size_t>(y * output_stride) + row], 123);
  }
}

TEST(Stream, TheSeedDeterminesTheFrames) {
  StreamSettings settings = make_settings(kWidth, kHeight, 4);
  const Clip clip = wave_clip(26, kWidth, kHeight);
  const Clip first = run(attention_model(), settings, clip);
  EXPECT_TRUE(run(attention_model(), settings, clip) == first);
  settings.seed = 1;
  const Clip other = run(attention_model(), settings, clip);
  for (std::size_t i = 0; i < clip.size(); ++i) EXPECT_FALSE(other[i] == first[i]) << i;
}

TEST(Stream, ExternalNoiseTakesThePlaceOfTheBuiltInNoise) {
  StreamSettings settings = make_settings(kWidth, kHeight, 4);
  settings.seed = 5;
  const Clip clip = wave_clip(30, kWidth, kHeight);
  const Clip expected = run(attention_model(), settings, clip);
  settings.noise = [](std::int64_t latent, std::int64_t rows, std::int64_t columns, float* values) {
    fill_with_noise(5, latent, rows, columns, values);
  };
  settings.seed = 6;
  EXPECT_TRUE(run(attention_model(), settings, clip) == expected);
}

TEST(Stream, AnotherPromptGivesOtherFrames) {
  StreamSettings settings = make_settings(kWidth, kHeight, 4);
  const Clip clip = wave_clip(1, kWidth, kHeight);
  const Clip expected = run(attention_model(), settings, clip);
  const Parameter& prompt = attention_model().networks.files.prompt;
  settings.prompt = prompt;
  EXPECT_TRUE(run(attention_model(), settings, clip) == expected);
  const Tensor other = allocate_host(prompt.shape(), DType::f32);
  for (std::int64_t i = 0; i < other.elements(); ++i) other.mutable_data<float>()[i] = static_cast<float>(i % 5) - 2;
  settings.prompt = Parameter("other", other);
  EXPECT_FALSE(run(attention_model(), settings, clip) == expected);
}

TEST(Stream, EverySettingOfTheAttentionCounts) {
  constexpr std::int64_t kWide = 384;  // three blocks side by side
  const StreamSettings settings = make_settings(kWide, 128, 1);
  const auto last_of = [&](std::int64_t frames, const std::function<void(StreamSettings&)>& change) {
    StreamSettings changed = settings;
    change(changed);
    return run(attention_model(), changed, wave_clip(frames, kWide, 128)).back();
  };
  const Frame expected = last_of(1, [](StreamSettings&) {});
  EXPECT_FALSE(last_of(1, [](StreamSettings& s) { s.sparse_ratio = 0.05; }) == expected);
  EXPECT_FALSE(last_of(1, [](StreamSettings& s) { s.topk_ratio = 1.0; }) == expected);
  EXPECT_FALSE(last_of(1, [](StreamSettings& s) { s.local_range = 1; }) == expected);
  EXPECT_FALSE(last_of(1, [](StreamSettings& s) { s.local_window = ops::LocalWindow::preserved; }) == expected);
  // The published cap drops the lowest pair even where the budget covers all.
  EXPECT_FALSE(last_of(1, [](StreamSettings& s) { s.all_allowed_blocks = true, s.local_range = 100; }) ==
               last_of(1, [](StreamSettings& s) { s.sparse_ratio = 100, s.local_range = 100; }));
  EXPECT_FALSE(last_of(26, [](StreamSettings& s) { s.kv_chunks = 1; }) == last_of(26, [](StreamSettings&) {}));
}

TEST(Stream, TheFullDecoderGivesAsManyFrames) {
  StreamSettings settings = make_settings(kWidth, kHeight, 4);
  settings.full_decoder = true;
  for (const std::int64_t frames : {1, 26}) {
    const Clip clip = wave_clip(frames, kWidth, kHeight);
    expect_frames_in_place(vae_model(), settings, clip, run(vae_model(), settings, clip));
  }
}

TEST(Stream, RunsInBf16) {
  const TestModel model("attention", ops::Precision::bf16);
  const StreamSettings settings = make_settings(kWidth, kHeight, 4);
  const Clip clip = wave_clip(30, kWidth, kHeight);
  expect_frames_in_place(model, settings, clip, run(model, settings, clip));
}

TEST(Stream, AnErrorInAChunkStopsTheStreamUntilItIsReset) {
  StreamSettings settings = make_settings(kWidth, kHeight, 4);
  const Clip clip = wave_clip(25, kWidth, kHeight);
  const Clip expected = run(attention_model(), settings, clip);
  bool stop = true;
  settings.progress = [&](std::int64_t frames_done) {
    if (stop && frames_done >= 5) fail(ErrorCode::cancelled, "stopped");
  };
  Stream stream(attention_model().networks, settings);
  EXPECT_EQ(code_of([&] { send_all(stream, clip); }), ErrorCode::cancelled);
  EXPECT_TRUE(stream.failed());
  EXPECT_EQ(code_of([&] { stream.send(clip[0].data(), kWidth * 3); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { stream.drain(); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { receive_all(stream); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { stream.save(); }), ErrorCode::invalid_argument);
  stop = false;
  stream.reset();
  EXPECT_TRUE(run(stream, clip) == expected);
}

TEST(Stream, AResetStreamIsAFreshOne) {
  const StreamSettings settings = make_settings(kWidth, kHeight, 4);
  const Clip clip = wave_clip(26, kWidth, kHeight);
  Stream stream(attention_model().networks, settings);
  send_all(stream, wave_clip(40, kWidth, kHeight));
  stream.reset();
  const Clip first = run(stream, clip);
  EXPECT_TRUE(first == run(attention_model(), settings, clip));
  stream.reset();
  EXPECT_TRUE(run(stream, clip) == first);
}

TEST(Stream, RefusesSettingsOutOfRange) {
  const auto code_with = [](const std::function<void(StreamSettings&)>& change) {
    StreamSettings settings = make_settings(kWidth, kHeight, 4);
    change(settings);
    return code_of([&] { Stream stream(attention_model().networks, settings); });
  };
  constexpr auto kInvalid = ErrorCode::invalid_argument;
  EXPECT_EQ(code_with([](StreamSettings& s) { s.input_width = 0; }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.input_height = -4; }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.output_width = 0; }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.output_height = 1 << 20; }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.sparse_ratio = 0; }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.sparse_ratio = -1; }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.sparse_ratio = 1e-3; }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.sparse_ratio = std::numeric_limits<double>::quiet_NaN(); }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.sparse_ratio = std::numeric_limits<double>::infinity(); }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.local_range = 0; }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.kv_chunks = 0; }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) {
              s.prompt = Parameter("p", allocate_host({3, 5}, DType::f32));
            }),
            kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.full_decoder = true; }), ErrorCode::unsupported);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.output_width = s.output_height = 65536; }), ErrorCode::out_of_memory);
}

TEST(Stream, RefusesWrongFrames) {
  Stream stream(attention_model().networks, make_settings(kWidth, kHeight, 4));
  const Frame frame = wave_frame(0, kWidth, kHeight);
  EXPECT_EQ(code_of([&] { stream.send(nullptr, kWidth * 3); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { stream.send(frame.data(), kWidth * 3 - 1); }), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of([&] { stream.send(frame.data(), -kWidth * 3); }), ErrorCode::invalid_argument);
  EXPECT_EQ(stream.state().frames_received, 0);
  ASSERT_TRUE(stream.send(frame.data(), kWidth * 3));
  stream.drain();
  stream.drain();
  EXPECT_EQ(code_of([&] { stream.send(frame.data(), kWidth * 3); }), ErrorCode::invalid_argument);
  Frame output(128 * 128 * 3);
  EXPECT_EQ(code_of([&] { stream.receive(output.data(), 128 * 3 - 1); }), ErrorCode::invalid_argument);
  EXPECT_EQ(stream.receive(output.data(), 128 * 3), Received::frame);
  EXPECT_EQ(stream.receive(output.data(), 128 * 3), Received::end);
}

}  // namespace
}  // namespace flashvsr::stream
