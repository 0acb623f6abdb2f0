// Streams that take and give images of the back end's memory, which is the host's here.
#include "stream/stream.h"

#include "stream_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

namespace flashvsr::stream {
namespace {

constexpr std::int64_t kWidth = 31, kHeight = 18;  // x4: 124 x 72, padded

struct Image {
  Image(std::int64_t width, std::int64_t height, int bit_depth) {
    view.width = width, view.height = height, view.bit_depth = bit_depth;
    const std::int64_t row = 2 * view.chroma_width() * view.sample_bytes() + 10;
    memory.resize(static_cast<std::size_t>(row * (height + view.chroma_height())));
    view.luma = memory.data();
    view.chroma = memory.data() + row * height;
    view.luma_stride = view.chroma_stride = row;
  }
  std::vector<std::uint8_t> memory;
  ops::SemiPlanarImage view;
};

Tensor tensor_of(const Frame& frame, std::int64_t width, std::int64_t height) {
  const Tensor host = allocate_host({1, height, width, 3}, DType::u8);
  std::ranges::copy(frame, host.mutable_data<std::uint8_t>());
  return host;
}

// The clip as images are read: what 4:2:0 leaves of it.
Clip through_images(ops::Operations& operations, const Clip& clip, int bit_depth) {
  Clip result;
  Image image(kWidth, kHeight, bit_depth);
  for (const Frame& frame : clip) {
    operations.write_image(image.view, operations.from_host(tensor_of(frame, kWidth, kHeight)));
    const Tensor rgb = operations.to_host(operations.read_image(image.view));
    result.emplace_back(rgb.data<std::uint8_t>(), rgb.data<std::uint8_t>() + rgb.elements());
  }
  return result;
}

TEST(ImageStream, TakesImagesLikeTheirRgb) {
  const TestModel& model = attention_model();
  ops::Operations& operations = *model.operations;
  StreamSettings settings = make_settings(kWidth, kHeight, 4);
  const Clip clip = wave_clip(34, kWidth, kHeight);
  for (const int bit_depth : {8, 10}) {
    const Clip seen = through_images(operations, clip, bit_depth);
    EXPECT_FALSE(seen == clip);
    settings.image_input = false;
    const Clip expected = run(model, settings, seen);
    settings.image_input = true;
    Stream stream(model.networks, settings);
    Image image(kWidth, kHeight, bit_depth);
    Clip output;
    for (std::size_t i = 0; i < clip.size(); ++i) {
      // Both ways take turns, and the image is another one as soon as it has been sent.
      if (i % 3 == 2) {
        ASSERT_TRUE(stream.send(seen[i].data(), kWidth * 3));
      } else {
        operations.write_image(image.view, operations.from_host(tensor_of(clip[i], kWidth, kHeight)));
        ASSERT_TRUE(stream.send(image.view));
        std::ranges::fill(image.memory, std::uint8_t{77});
      }
      append(output, receive_all(stream));
    }
    stream.drain();
    append(output, receive_all(stream));
    EXPECT_TRUE(output == expected) << bit_depth;
  }
}

std::vector<std::vector<std::uint8_t>> receive_images(Stream& stream, Image& image) {
  std::vector<std::vector<std::uint8_t>> images;
  while (stream.receive(image.view) == Received::frame) images.push_back(image.memory);
  return images;
}

TEST(ImageStream, GivesImagesOfItsFrames) {
  const TestModel& model = attention_model();
  ops::Operations& operations = *model.operations;
  StreamSettings settings = make_settings(17, 13, 3);
  const Clip clip = wave_clip(30, 17, 13);
  const Clip frames = run(model, settings, clip);
  settings.image_output = true;
  for (const int bit_depth : {8, 10}) {
    for (const ChromaSiting siting : {ChromaSiting::left, ChromaSiting::center}) {
      Image image(51, 39, bit_depth), wanted(51, 39, bit_depth);
      image.view.siting = wanted.view.siting = siting;
      Stream stream(model.networks, settings);
      std::vector<std::vector<std::uint8_t>> images;
      for (const Frame& frame : clip) {
        ASSERT_TRUE(stream.send(frame.data(), 17 * 3));
        for (auto& received : receive_images(stream, image)) images.push_back(std::move(received));
      }
      stream.drain();
      for (auto& received : receive_images(stream, image)) images.push_back(std::move(received));
      EXPECT_EQ(stream.receive(image.view), Received::end);
      ASSERT_EQ(images.size(), frames.size());
      for (std::size_t i = 0; i < frames.size(); ++i) {
        operations.write_image(wanted.view, operations.from_host(tensor_of(frames[i], 51, 39)));
        EXPECT_TRUE(images[i] == wanted.memory) << i;
      }
    }
  }
}

// Where frames wait is no part of a saved state.
TEST(ImageStream, StatesGoFromOneKindToTheOther) {
  const TestModel& model = attention_model();
  StreamSettings settings = make_settings(17, 13, 3), images = settings;
  images.image_output = images.image_input = true;
  const Clip clip = wave_clip(26, 17, 13);
  const Clip expected = run(model, settings, clip);
  Stream plain(model.networks, settings), with_images(model.networks, images), last(model.networks, settings);
  for (std::size_t i = 0; i < 25; ++i) ASSERT_TRUE(plain.send(clip[i].data(), 17 * 3));
  const std::vector<std::byte> saved = plain.save();  // with 21 frames that wait
  with_images.restore(saved);
  EXPECT_TRUE(with_images.save() == saved);
  Image image(51, 39, 8);
  ASSERT_EQ(with_images.receive(image.view), Received::frame);
  last.restore(with_images.save());
  Clip output = receive_all(last);
  EXPECT_EQ(output.size(), 20u);
  append(output, run(last, {clip.back()}));
  EXPECT_TRUE(output == Clip(expected.begin() + 1, expected.end()));
}

TEST(ImageStream, RefusesWhatItWasNotOpenedForAndWhatIsNoImage) {
  const auto code_of = [](const std::function<void()>& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::internal;
  };
  const TestModel& model = attention_model();
  StreamSettings settings = make_settings(kWidth, kHeight, 4);
  Frame rgb(static_cast<std::size_t>(4 * kWidth * 4 * kHeight * 3));
  Image input(kWidth, kHeight, 10), output(4 * kWidth, 4 * kHeight, 8);
  constexpr auto kInvalid = ErrorCode::invalid_argument;
  {
    Stream stream(model.networks, settings);
    EXPECT_EQ(code_of([&] { stream.send(input.view); }), kInvalid);
    EXPECT_EQ(code_of([&] { stream.receive(output.view); }), kInvalid);
  }
  settings.image_input = settings.image_output = true;
  Stream stream(model.networks, settings);
  EXPECT_EQ(code_of([&] { stream.receive(rgb.data(), 4 * kWidth * 3); }), kInvalid);
  EXPECT_EQ(stream.receive(output.view), Received::again);
  const auto send_code = [&](const std::function<void(ops::SemiPlanarImage&)>& change) {
    ops::SemiPlanarImage image = input.view;
    change(image);
    return code_of([&] { stream.send(image); });
  };
  EXPECT_EQ(send_code([](auto& image) { image.width = kWidth + 1; }), kInvalid);
  EXPECT_EQ(send_code([](auto& image) { image.luma = nullptr; }), kInvalid);
  EXPECT_EQ(send_code([](auto& image) { image.chroma_stride = 2 * kWidth + 1; }), kInvalid);
  EXPECT_EQ(send_code([](auto& image) { image.luma_stride += 1; }), kInvalid);
  EXPECT_EQ(send_code([](auto& image) { image.matrix = 0; }), ErrorCode::unsupported);
  EXPECT_EQ(stream.state().frames_received, 0);
  EXPECT_TRUE(stream.send(input.view));
  stream.drain();
  output.view.siting = ChromaSiting::top_left;
  EXPECT_EQ(code_of([&] { stream.receive(output.view); }), ErrorCode::unsupported);
  output.view.siting = ChromaSiting::left;
  EXPECT_EQ(stream.receive(output.view), Received::frame);
  EXPECT_EQ(stream.receive(output.view), Received::end);
}

}  // namespace
}  // namespace flashvsr::stream
