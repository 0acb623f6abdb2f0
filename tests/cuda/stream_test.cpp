// Streams on the CUDA back end, whose copies between device and host run beside computing: what goes wrong there shows
// in the frames.
#include "ops/cuda_loader.h"
#include "stream_fixture.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

namespace flashvsr::stream {
namespace {

// Of a golden set's model, whose sizes kernels take.
class CudaStreamTest : public ::testing::TestWithParam<ops::Precision> {
 protected:
  void SetUp() override {
    const std::string& reason = ops::cuda_unavailable_reason();
    if (reason.empty()) {
      operations_ = ops::make_backend({.device = ops::Device::cuda, .precision = GetParam()});
      return;
    }
    const char* required = std::getenv("FLASHVSR_REQUIRE_CUDA");
    if (required != nullptr && std::string_view(required) == "1") FAIL() << reason;
    GTEST_SKIP() << reason;
  }

  // Frames may be finished, and then refuse the next chunk, at any moment.
  static Clip send_patiently(Stream& stream, const Clip& clip) {
    Clip received;
    for (const Frame& frame : clip) {
      while (!stream.send(frame.data(), stream.settings().input_width * 3)) append(received, receive_all(stream));
      append(received, receive_all(stream));
    }
    return received;
  }
  static Clip run_patiently(Stream& stream, const Clip& clip) {
    Clip received = send_patiently(stream, clip);
    stream.drain();
    append(received, receive_all(stream));
    return received;
  }
  Clip frames_of(const StreamSettings& settings, const Clip& clip) const {
    const Networks networks(*operations_, attention_model().networks.files);
    Stream stream(networks, settings);
    return run_patiently(stream, clip);
  }

  std::unique_ptr<ops::Operations> operations_;
};

// Windows in the host's memory change no bit, whether the frame is cut into tiles, which then share their slots, or
// not.
TEST_P(CudaStreamTest, SpilledWindowsChangeNothing) {
  StreamSettings settings = make_settings(95, 33, 4);
  const Clip clip = wave_clip(50, 95, 33);
  const std::int64_t most = attention_model().networks.dit.layers() * settings.kv_chunks;
  for (const TileCounts tiles : {TileCounts{1, 1}, TileCounts{2, 1}}) {
    settings.tiles = tiles;
    settings.spilled_windows = 0;
    const Clip expected = frames_of(settings, clip);
    ASSERT_EQ(expected.size(), clip.size());
    for (const std::int64_t spilled : {std::int64_t{1}, most / 2, most}) {
      settings.spilled_windows = spilled;
      EXPECT_TRUE(frames_of(settings, clip) == expected) << tiles.columns << " tiles, " << spilled << " windows";
    }
  }
}

TEST_P(CudaStreamTest, SlicesOfTheDecoderChangeRoundingsAtMost) {
  StreamSettings settings = make_settings(95, 33, 4);
  const Clip clip = wave_clip(26, 95, 33);
  const Clip expected = frames_of(settings, clip);
  settings.decoder_slice_bytes = std::size_t{1} << 16;
  const Clip sliced = frames_of(settings, clip);
  ASSERT_EQ(sliced.size(), expected.size());
  for (std::size_t i = 0; i < sliced.size(); ++i) {
    for (std::size_t j = 0; j < sliced[i].size(); ++j) ASSERT_NEAR(sliced[i][j], expected[i][j], 1) << i;
  }
}

TEST_P(CudaStreamTest, TiledStreamsAreRestoredBitForBit) {
  StreamSettings settings = make_settings(95, 33, 4);
  settings.tiles = TileCounts{2, 1};
  settings.spilled_windows = attention_model().networks.dit.layers() * settings.kv_chunks;
  const Clip clip = wave_clip(43, 95, 33);
  const Clip expected = frames_of(settings, clip);
  const Networks networks(*operations_, attention_model().networks.files);
  Stream first(networks, settings), second(networks, settings);
  Clip output = send_patiently(first, Clip(clip.begin(), clip.begin() + 36));
  second.restore(first.save());
  append(output, run_patiently(second, Clip(clip.begin() + 36, clip.end())));
  EXPECT_TRUE(output == expected);
}

INSTANTIATE_TEST_SUITE_P(Types, CudaStreamTest, ::testing::Values(ops::Precision::f32, ops::Precision::bf16),
                         [](const auto& info) { return info.param == ops::Precision::bf16 ? "bf16" : "f32"; });

}  // namespace
}  // namespace flashvsr::stream
