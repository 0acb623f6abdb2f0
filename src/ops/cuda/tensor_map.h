// Descriptors for the bulk tensor copy engine, encoded by the driver without linking it.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace flashvsr::cuda {

// A row-major bf16 matrix [rows, columns] (columns a multiple of 64) seen as [columns / 64][rows][64], copied in boxes
// of `panels` panels of `box_rows` rows x 64 columns with the 128-byte swizzle: the operand layout of wgmma. Rows out
// of range read as zeros and are not written. Returns false if the driver refuses.
bool encode_panel_map(CUtensorMap* map, const void* data, std::uint64_t rows, std::uint64_t columns,
                      std::uint32_t box_rows, std::uint32_t panels);

// bf16 frames [frames, height, width, channels] (channels a multiple of 8), copied in boxes of 64 channels x box_width
// x box_height pixels of one frame with the 128-byte swizzle: one pixel a row of 128 bytes. What lies out of range
// reads as zeros.
bool encode_frames_map(CUtensorMap* map, const void* data, std::uint64_t channels, std::uint64_t width,
                       std::uint64_t height, std::uint64_t frames, std::uint32_t box_width, std::uint32_t box_height);

}  // namespace flashvsr::cuda
