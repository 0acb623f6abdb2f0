// Pictures of Y'CbCr in the host's memory, planar or semi-planar, and 8-bit RGB.
#pragma once

#include "core/color_conversion.h"

#include <cstddef>
#include <cstdint>

namespace flashvsr {

struct YccPicture {
  int width = 0, height = 0;  // pixels, >= 1
  int bit_depth = 8;          // 8..16; more than 8: two bytes per sample, little endian
  int shift = 0;              // of a code inside its two bytes: 6 in P010
  bool has_chroma = true;
  int log2_chroma_width = 1;  // 0 or 1: chroma samples per luma sample, halved (rounded up) that many times
  int log2_chroma_height = 1;
  int chroma_step = 1;  // samples from one Cb to the next: 2 where Cb and Cr take turns
  ChromaSiting siting = ChromaSiting::left;
  int matrix = 1;  // of ITU-T H.273
  bool full_range = false;
  // First samples, and bytes from row to row. Only written to by store_rgb_rows.
  std::uint8_t *luma = nullptr, *cb = nullptr, *cr = nullptr;
  std::ptrdiff_t luma_stride = 0, chroma_stride = 0;

  int chroma_width() const { return (width + (1 << log2_chroma_width) - 1) >> log2_chroma_width; }
  int chroma_height() const { return (height + (1 << log2_chroma_height) - 1) >> log2_chroma_height; }
};

// Rows [begin, end) of `rgb` [height][width][3]. Chroma is interpolated linearly where its samples lie.
// Throws Error(unsupported) as luma_weights does.
void load_rgb_rows(const YccPicture& picture, int begin, int end, std::uint8_t* rgb);

// Rows [begin, end) of chroma, and those of luma that share them, from `rgb` [height][width][3]. Needs chroma; siting
// left or center. Chroma is the mean of the pixels around it (ChromaColumns), over the rows that share it.
void store_rgb_rows(const YccPicture& picture, int begin, int end, const std::uint8_t* rgb);

}  // namespace flashvsr
