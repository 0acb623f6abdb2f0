// Images of other libraries (operations read_image and write_image) against the conversion of planar files.
#include "media/color.h"
#include "ops/cpu/reference_operations.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>

namespace flashvsr::media::test {
namespace {

constexpr ColorMatrix kMatrices[] = {ColorMatrix::bt709, ColorMatrix::bt601_625, ColorMatrix::bt601_525,
                                     ColorMatrix::bt2020};

PlanarFormat format_of(int width, int height, int bit_depth, ChromaSiting siting, ColorMatrix matrix, bool full_range) {
  PlanarFormat format;
  format.width = width, format.height = height, format.bit_depth = bit_depth;
  format.siting = siting;
  format.matrix = matrix;
  format.range = full_range ? ColorRange::full : ColorRange::limited;
  return format;
}

// The same samples, planar as in files and semi-planar with rows that lie apart.
class Images {
 public:
  explicit Images(const PlanarFormat& format)
      : format_(format),
        sample_bytes_(format.bit_depth > 8 ? 2 : 1),
        row_bytes_(static_cast<std::size_t>(2 * format.plane_width(1)) * sample_bytes_ + 6),
        luma_(row_bytes_ * static_cast<std::size_t>(format.height)),
        chroma_(row_bytes_ * static_cast<std::size_t>(format.plane_height(1))) {}

  ops::SemiPlanarImage image() {
    return {.luma = luma_.data(),
            .chroma = chroma_.data(),
            .luma_stride = static_cast<std::int64_t>(row_bytes_),
            .chroma_stride = static_cast<std::int64_t>(row_bytes_),
            .width = format_.width,
            .height = format_.height,
            .bit_depth = format_.bit_depth,
            .matrix = static_cast<int>(format_.matrix),
            .full_range = format_.range == ColorRange::full,
            .siting = format_.siting};
  }

  void set(const std::vector<std::uint8_t>& planar) {
    visit([&](std::size_t index, std::uint8_t* sample) {
      unsigned code = planar[index * sample_bytes_];
      if (sample_bytes_ == 2) code |= static_cast<unsigned>(planar[2 * index + 1]) << 8;
      const unsigned word = sample_bytes_ == 2 ? code << 6 : code;
      sample[0] = static_cast<std::uint8_t>(word & 0xFFU);
      if (sample_bytes_ == 2) sample[1] = static_cast<std::uint8_t>(word >> 8);
    });
  }

  std::vector<std::uint8_t> planar() {
    std::vector<std::uint8_t> result(format_.frame_bytes());
    visit([&](std::size_t index, const std::uint8_t* sample) {
      const unsigned word = sample_bytes_ == 2 ? static_cast<unsigned>(sample[0] | sample[1] << 8) : sample[0];
      const unsigned code = sample_bytes_ == 2 ? word >> 6 : word;
      if (sample_bytes_ == 2) {
        EXPECT_EQ(word & 63U, 0U);
      }
      result[index * sample_bytes_] = static_cast<std::uint8_t>(code & 0xFFU);
      if (sample_bytes_ == 2) result[2 * index + 1] = static_cast<std::uint8_t>(code >> 8);
    });
    return result;
  }

 private:
  // (place in the planar picture, sample here)
  template <typename Function>
  void visit(const Function& function) {
    std::size_t index = 0;
    for (int plane = 0; plane < 3; ++plane) {
      for (int y = 0; y < format_.plane_height(plane); ++y) {
        for (int x = 0; x < format_.plane_width(plane); ++x, ++index) {
          std::uint8_t* row = (plane == 0 ? luma_ : chroma_).data() + row_bytes_ * static_cast<std::size_t>(y);
          const int place = plane == 0 ? x : 2 * x + plane - 1;
          function(index, row + static_cast<std::size_t>(place) * sample_bytes_);
        }
      }
    }
  }

  PlanarFormat format_;
  std::size_t sample_bytes_, row_bytes_;
  std::vector<std::uint8_t> luma_, chroma_;
};

std::vector<std::uint8_t> random_planar(const PlanarFormat& format, std::mt19937& random) {
  std::vector<std::uint8_t> planar(format.frame_bytes());
  for (std::size_t i = 0; i < planar.size(); ++i) {
    const bool high = format.bit_depth > 8 && i % 2 == 1;
    planar[i] = static_cast<std::uint8_t>(high ? random() % 4 : random() % 256);
  }
  return planar;
}

template <typename Function>
void for_all_formats(const Function& function) {
  std::mt19937 random(5);
  for (const ColorMatrix matrix : kMatrices) {
    for (const bool full_range : {false, true}) {
      for (const int bit_depth : {8, 10}) {
        for (const ChromaSiting siting : {ChromaSiting::center, ChromaSiting::left, ChromaSiting::top_left}) {
          for (int trial = 0; trial < 4; ++trial) {
            const int width = 1 + static_cast<int>(random() % 40), height = 1 + static_cast<int>(random() % 40);
            SCOPED_TRACE(fmt::format("{}x{}, {} bits, matrix {}, full {}, siting {}", width, height, bit_depth,
                                     static_cast<int>(matrix), full_range, static_cast<int>(siting)));
            function(format_of(width, height, bit_depth, siting, matrix, full_range), random);
          }
        }
      }
    }
  }
}

TEST(SemiPlanar, IsReadLikePlanarFiles) {
  ops::ReferenceOperations operations({});
  for_all_formats([&](const PlanarFormat& format, std::mt19937& random) {
    const std::vector<std::uint8_t> planar = random_planar(format, random);
    Images images(format);
    images.set(planar);
    const Tensor rgb = operations.read_image(images.image());
    ASSERT_EQ(rgb.shape(), (Shape{1, format.height, format.width, 3}));
    std::vector<std::uint8_t> expected(rgb.bytes());
    planar_to_rgb(format, planar.data(), expected.data());
    EXPECT_EQ(std::memcmp(rgb.raw(), expected.data(), expected.size()), 0);
  });
}

TEST(SemiPlanar, IsWrittenLikePlanarFiles) {
  ops::ReferenceOperations operations({});
  for_all_formats([&](const PlanarFormat& format, std::mt19937& random) {
    const Tensor rgb = allocate_host({1, format.height, format.width, 3}, DType::u8);
    for (std::int64_t i = 0; i < rgb.elements(); ++i) {
      rgb.mutable_data<std::uint8_t>()[i] = static_cast<std::uint8_t>(random() % 256);
    }
    Images images(format);
    if (format.siting == ChromaSiting::top_left) {
      EXPECT_THROW(operations.write_image(images.image(), rgb), Error);
      return;
    }
    operations.write_image(images.image(), rgb);
    std::vector<std::uint8_t> expected(format.frame_bytes());
    rgb_to_planar(format, rgb.data<std::uint8_t>(), expected.data());
    EXPECT_EQ(images.planar(), expected);
  });
}

TEST(SemiPlanar, WhatIsNoImageIsRefused) {
  ops::ReferenceOperations operations({});
  PlanarFormat format = format_of(8, 6, 10, ChromaSiting::left, ColorMatrix::bt709, false);
  Images images(format);
  const auto refused = [&](const std::function<void(ops::SemiPlanarImage&)>& change) {
    ops::SemiPlanarImage image = images.image();
    change(image);
    EXPECT_THROW(operations.read_image(image), Error);
  };
  EXPECT_NO_THROW(operations.read_image(images.image()));
  refused([](auto& image) { image.luma = nullptr; });
  refused([](auto& image) { image.chroma_stride = 15; });
  refused([](auto& image) { image.luma_stride += 1; });
  refused([](auto& image) { image.bit_depth = 9; });
  refused([](auto& image) { image.width = 0; });
  refused([](auto& image) { image.matrix = 8; });
}

}  // namespace
}  // namespace flashvsr::media::test
