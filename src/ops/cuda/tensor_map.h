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

}  // namespace flashvsr::cuda
