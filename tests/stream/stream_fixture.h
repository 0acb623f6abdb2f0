// Small models, moving clips, and ways to run them.
#pragma once

#include "ops/backend.h"
#include "stream/stream.h"
#include "weights/model_files.h"

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <numbers>
#include <string>
#include <vector>

namespace flashvsr::stream {

using Frame = std::vector<std::uint8_t>;
using Clip = std::vector<Frame>;

// A golden set's model on the CPU in f32.
struct TestModel {
  explicit TestModel(const std::string& set, ops::Precision precision = ops::Precision::f32)
      : operations(ops::make_backend({ops::Device::cpu, precision, 0})),
        networks(*operations,
                 weights::load_model(std::filesystem::path(FLASHVSR_SOURCE_DIR) / "tests/golden" / set, std::nullopt)) {
  }

  std::unique_ptr<ops::Operations> operations;
  Networks networks;
};

// v1.1 projector, attention that matters, no Wan VAE.
inline TestModel& attention_model() {
  static TestModel model("attention");
  return model;
}

// v1.1 projector with a Wan VAE.
inline TestModel& vae_model() {
  static TestModel model("v1.1");
  return model;
}

inline StreamSettings make_settings(std::int64_t width, std::int64_t height, double scale) {
  StreamSettings settings;
  settings.input_width = width;
  settings.input_height = height;
  settings.output_width = static_cast<std::int64_t>(std::floor(static_cast<double>(width) * scale + 0.5));
  settings.output_height = static_cast<std::int64_t>(std::floor(static_cast<double>(height) * scale + 0.5));
  // Takes its low band from the LR frame, so that an output frame shows which frame it is.
  settings.color_fix = ColorFix::wavelet;
  settings.local_range = 3;
  return settings;
}

// One wave across the frame that moves by about an eighth of its length from frame to frame: neighbours differ in
// their low band, and no frame is like another for long.
inline Frame wave_frame(std::int64_t index, std::int64_t width, std::int64_t height) {
  Frame frame;
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      const double across = static_cast<double>(x) / static_cast<double>(width);
      const double down = static_cast<double>(y) / static_cast<double>(height);
      for (int channel = 0; channel < 3; ++channel) {
        const double turn = across + 0.5 * down + 0.127 * static_cast<double>(index) + channel / 3.0;
        frame.push_back(static_cast<std::uint8_t>(std::lround(128 + 90 * std::sin(2 * std::numbers::pi * turn))));
      }
    }
  }
  return frame;
}

inline Clip wave_clip(std::int64_t frames, std::int64_t width, std::int64_t height) {
  Clip clip;
  for (std::int64_t i = 0; i < frames; ++i) clip.push_back(wave_frame(i, width, height));
  return clip;
}

inline Clip receive_all(Stream& stream) {
  const StreamSettings& settings = stream.settings();
  Clip received;
  Frame frame(static_cast<std::size_t>(settings.output_width * settings.output_height * 3));
  while (stream.receive(frame.data(), settings.output_width * 3) == Received::frame) received.push_back(frame);
  return received;
}

inline void append(Clip& clip, Clip more) {
  for (Frame& frame : more) clip.push_back(std::move(frame));
}

// What StreamSettings::noise must fill in to be the built-in noise of `seed`.
inline void fill_with_noise(std::uint64_t seed, std::int64_t latent, std::int64_t rows, std::int64_t columns,
                            float* values) {
  ops::Operations& operations = *attention_model().operations;
  const Tensor noise = operations.to_host(operations.gaussian_noise(seed, latent, 1, rows, columns));
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    for (std::int64_t channel = 0; channel < 16; ++channel) {
      values[channel * rows * columns + i] = noise.data<float>()[i * 16 + channel];
    }
  }
}

// Sends `clip`, receiving after every frame.
inline Clip send_all(Stream& stream, const Clip& clip) {
  Clip received;
  for (const Frame& frame : clip) {
    if (!stream.send(frame.data(), stream.settings().input_width * 3)) throw std::runtime_error("a frame was refused");
    append(received, receive_all(stream));
  }
  return received;
}

// Sends and drains: all frames of the video.
inline Clip run(Stream& stream, const Clip& clip) {
  Clip received = send_all(stream, clip);
  stream.drain();
  append(received, receive_all(stream));
  return received;
}

inline Clip run(const TestModel& model, const StreamSettings& settings, const Clip& clip) {
  Stream stream(model.networks, settings);
  return run(stream, clip);
}

// Mean squared difference of the means over a coarse grid of at most 8 x 8 cells: what the low bands differ by.
inline double coarse_distance(const Frame& a, const Frame& b, std::int64_t width, std::int64_t height) {
  constexpr std::int64_t kCells = 8;
  double sum = 0;
  for (std::int64_t row = 0; row < kCells; ++row) {
    for (std::int64_t column = 0; column < kCells; ++column) {
      const std::int64_t top = row * height / kCells, bottom = (row + 1) * height / kCells;
      const std::int64_t left = column * width / kCells, right = (column + 1) * width / kCells;
      for (std::int64_t channel = 0; channel < 3; ++channel) {
        double difference = 0;
        for (std::int64_t y = top; y < bottom; ++y) {
          for (std::int64_t x = left; x < right; ++x) {
            const auto i = static_cast<std::size_t>((y * width + x) * 3 + channel);
            difference += static_cast<double>(a[i]) - static_cast<double>(b[i]);
          }
        }
        const std::int64_t pixels = (bottom - top) * (right - left);
        if (pixels > 0) sum += std::pow(difference / static_cast<double>(pixels), 2);
      }
    }
  }
  return sum / (3 * kCells * kCells);
}

// Frames of the clip at the output size, as the stream must see them.
inline Clip upsampled(const TestModel& model, const Clip& clip, const StreamSettings& settings) {
  Clip result;
  for (const Frame& frame : clip) {
    const Tensor host = allocate_host({1, settings.input_height, settings.input_width, 3}, DType::u8);
    std::copy(frame.begin(), frame.end(), host.mutable_data<std::uint8_t>());
    ops::Operations& operations = *model.operations;
    const Tensor up = operations.to_host(
        operations.resize_bicubic(operations.from_host(host), settings.output_height, settings.output_width));
    result.emplace_back(up.data<std::uint8_t>(), up.data<std::uint8_t>() + up.elements());
  }
  return result;
}

}  // namespace flashvsr::stream
