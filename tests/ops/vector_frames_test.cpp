#include "vector_test_support.h"

#include <limits>

namespace flashvsr::ops::vector_test {
namespace {

struct Size {
  std::int64_t height, width;
};

TEST(VectorFrames, ResizeIsExact) {
  struct Case {
    Size from, to;
  };
  for (const Case& c :
       {Case{{13, 17}, {52, 68}}, Case{{66, 100}, {99, 150}}, Case{{1, 1}, {5, 7}}, Case{{64, 64}, {9, 5}},
        Case{{33, 20}, {33, 80}}, Case{{33, 20}, {66, 20}}, Case{{359, 41}, {40, 83}}}) {
    SCOPED_TRACE(testing::Message() << c.from.height << "x" << c.from.width << " to " << c.to.height << "x"
                                    << c.to.width);
    expect_like_reference(DType::f32, 0, [&](Operations& o) -> Results {
      const Tensor frames = o.from_host(random_bytes({3, c.from.height, c.from.width, 3}, 1));
      return {o.resize_bicubic(frames, c.to.height, c.to.width)};
    });
  }
}

// Neighbours of 0 and 255 overshoot: both sides of the clipping.
TEST(VectorFrames, ResizeClips) {
  expect_like_reference(DType::f32, 0, [&](Operations& o) -> Results {
    const Tensor host = allocate_host({1, 16, 16, 3}, DType::u8);
    for (std::int64_t i = 0; i < host.elements(); ++i) {
      host.mutable_data<std::uint8_t>()[i] = (i / 9 + i / 144) % 2 == 0 ? 0 : 255;
    }
    return {o.resize_bicubic(o.from_host(host), 61, 47)};
  });
}

TEST(VectorFrames, RearrangementsAreExact) {
  for (const DType type : {DType::f32, DType::bf16}) {
    expect_like_reference(type, 0, [&](Operations& o) -> Results {
      const Tensor bytes = o.from_host(random_bytes({4, 48, 80, 3}, 1));
      const Tensor floats = o.from_host(random_host({4, 48, 80, 3}, 2), type);
      return {o.space_to_depth(bytes, 8, 4, 3.0f), o.space_to_depth(bytes, 16, 1),
              o.space_to_depth(bytes, 4, 2, 1.5f), o.space_to_depth(floats, 8, 4),
              o.pad_edge(bytes, 64, 128),          o.pad_edge(floats, 48, 81),
              o.crop(bytes, 3, 5, 40, 41),         o.to_video(bytes)};
    });
  }
}

TEST(VectorFrames, ToBytesIsExact) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const DType type : {DType::f32, DType::bf16}) {
    expect_like_reference(type, 0, [&](Operations& o) -> Results {
      const Tensor host = random_host({3, 20, 17, 3}, 1, 0.7f);
      auto* values = host.mutable_data<float>();
      const float special[] = {-1, 1, kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(), 1e30f, -1e30f};
      std::copy(std::begin(special), std::end(special), values + 100);
      // Halves, and what lies next to them.
      for (int i = 0; i < 256; ++i) {
        const float half = (static_cast<float>(i) + 0.5f) / 127.5f - 1.0f;
        values[300 + 3 * i] = half;
        values[301 + 3 * i] = std::nextafter(half, 2.0f);
        values[302 + 3 * i] = std::nextafter(half, -2.0f);
      }
      return {o.to_bytes(o.from_host(host, type))};
    });
  }
}

// ------------------------------------------------------------------------------------------------------- colour

Tensor video_of(Operations& o, const Shape& shape, std::uint32_t seed, float deviation, float mean) {
  return o.from_host(random_host(shape, seed, deviation, mean));
}

// Values of about one, of which each level adds four and the rest a handful of roundings.
constexpr double kColorTolerance = 32 * kEpsilonF32;

TEST(VectorColor, WaveletEqualsReference) {
  for (const Size& s : {Size{1, 1}, Size{2, 5}, Size{31, 33}, Size{40, 700}, Size{200, 16}, Size{65, 360}}) {
    SCOPED_TRACE(testing::Message() << s.height << "x" << s.width);
    expect_like_reference(DType::f32, kColorTolerance, [&](Operations& o) -> Results {
      const Shape shape{2, s.height, s.width, 3};
      return {o.wavelet(video_of(o, shape, 1, 0.4f, 0.1f), o.from_host(random_bytes(shape, 2)))};
    });
  }
}

// Far from the border of a tile, an impulse spreads as the five filters say, across tiles too.
TEST(VectorColor, WaveletOfAnImpulseIsSymmetric) {
  for (const Isa isa : available_isas()) {
    SCOPED_TRACE(name_of(isa));
    VectorOperations o({.threads = 4}, isa);
    constexpr std::int64_t kHeight = 140, kWidth = 800, kRow = 67, kColumn = 399;
    const Tensor video = allocate_host({1, kHeight, kWidth, 3}, DType::f32);
    const Tensor grey = allocate_host({1, kHeight, kWidth, 3}, DType::u8);
    std::fill_n(video.mutable_data<float>(), video.elements(), 0.0f);
    std::fill_n(grey.mutable_data<std::uint8_t>(), grey.elements(), std::uint8_t{51});  // -0.6
    video.mutable_data<float>()[(kRow * kWidth + kColumn) * 3 + 1] = 0.5f;
    const std::vector<float> y = values_of(o, o.wavelet(o.from_host(video), o.from_host(grey)));
    const auto at = [&](std::int64_t row, std::int64_t column, std::int64_t c) {
      return y[static_cast<std::size_t>((row * kWidth + column) * 3 + c)];
    };
    double sum = 0;
    for (std::int64_t i = -31; i <= 31; ++i) {
      for (std::int64_t j = -31; j <= 31; ++j) {
        EXPECT_NEAR(at(kRow + i, kColumn + j, 1), at(kRow - i, kColumn + j, 1), 1e-6);
        EXPECT_NEAR(at(kRow + i, kColumn + j, 1), at(kRow + j, kColumn + i, 1), 1e-6);
        sum += static_cast<double>(at(kRow + i, kColumn + j, 1)) + 0.6;
      }
    }
    // What is taken away around it is what it is itself.
    EXPECT_NEAR(sum, 0.0, 1e-3);
    EXPECT_NEAR(at(kRow, kColumn + 32, 1), -0.6, 1e-6);
    EXPECT_NEAR(at(kRow + 32, kColumn, 1), -0.6, 1e-6);
    EXPECT_NEAR(at(kRow, kColumn, 0), -0.6, 1e-6);
  }
}

TEST(VectorColor, AdainEqualsReference) {
  for (const Size& s : {Size{1, 1}, Size{3, 7}, Size{90, 161}, Size{64, 128}}) {
    SCOPED_TRACE(testing::Message() << s.height << "x" << s.width);
    const Shape shape{2, s.height, s.width, 3};
    expect_like_reference(DType::f32, kColorTolerance, [&](Operations& o) -> Results {
      return {o.adain(video_of(o, shape, 1, 0.4f, 0.1f), o.from_host(random_bytes(shape, 2)))};
    });
    // Nearly constant: the deviation is that of the rounding and of the 1e-5 beneath the root.
    expect_like_reference(DType::f32, 16 * kColorTolerance, [&](Operations& o) -> Results {
      return {o.adain(video_of(o, shape, 1, 1e-4f, 0.9f), o.from_host(random_bytes(shape, 2)))};
    });
  }
}

TEST(VectorFrames, Times) {
  if (!times_wanted()) GTEST_SKIP() << "set FLASHVSR_TEST_TIMES for times";
  constexpr double kValues = 720.0 * 1280 * 3;
  const Shape frame{1, 720, 1280, 3};
  const auto on_video = [&](const std::string& name, double bytes, const auto& operation) {
    print_times(name, DType::f32, kValues * bytes, "GB", [&](Operations& o) {
      const Tensor video = video_of(o, frame, 1, 0.4f, 0.1f), reference = o.from_host(random_bytes(frame, 2));
      return std::function<void()>([&o, video, reference, operation] { operation(o, video, reference); });
    });
  };
  on_video("wavelet", 9, [](Operations& o, const Tensor& v, const Tensor& r) { o.wavelet(v, r); });
  on_video("adain", 13, [](Operations& o, const Tensor& v, const Tensor& r) { o.adain(v, r); });
  on_video("to bytes", 5, [](Operations& o, const Tensor& v, const Tensor&) { o.to_bytes(v); });
  on_video("to video", 5, [](Operations& o, const Tensor&, const Tensor& r) { o.to_video(r); });
  on_video("pad 720 to 768", 2, [](Operations& o, const Tensor&, const Tensor& r) { o.pad_edge(r, 768, 1280); });
  print_times("resize 180x320 to 720x1280", DType::f32, kValues, "GB", [&](Operations& o) {
    const Tensor small = o.from_host(random_bytes({1, 180, 320, 3}, 2));
    return std::function<void()>([&o, small] { o.resize_bicubic(small, 720, 1280); });
  });
  for (const DType type : {DType::f32, DType::bf16}) {
    const auto bytes = static_cast<double>(1 + size_of(type));
    print_times("space to depth, 4 frames", type, 4.0 * 768 * 1280 * 3 * bytes, "GB", [&](Operations& o) {
      const Tensor frames = o.from_host(random_bytes({4, 768, 1280, 3}, 2));
      return std::function<void()>([&o, frames] { o.space_to_depth(frames, 8, 4, 3.0f); });
    });
  }
  print_times("noise, 2 latents", DType::f32, 2.0 * 96 * 160 * 16 * 4, "GB",
              [&](Operations& o) { return std::function<void()>([&o] { o.gaussian_noise(1, 4, 2, 96, 160); }); });
}

}  // namespace
}  // namespace flashvsr::ops::vector_test
