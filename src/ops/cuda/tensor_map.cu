#include "ops/cuda/tensor_map.h"

#include <cudaTypedefs.h>
#include <cuda_runtime.h>

namespace flashvsr::cuda {
namespace {

PFN_cuTensorMapEncodeTiled_v12000 encode_function() {
  static const auto function = [] {
    void* pointer = nullptr;
    cudaDriverEntryPointQueryResult found{};
    const cudaError_t status =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &pointer, 12000, cudaEnableDefault, &found);
    return status == cudaSuccess && found == cudaDriverEntryPointSuccess
               ? reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(pointer)
               : nullptr;
  }();
  return function;
}

}  // namespace

bool encode_panel_map(CUtensorMap* map, const void* data, std::uint64_t rows, std::uint64_t columns,
                      std::uint32_t box_rows, std::uint32_t panels) {
  const auto encode = encode_function();
  if (encode == nullptr) return false;
  const cuuint64_t dims[3] = {64, rows, columns / 64};
  const cuuint64_t strides[2] = {columns * 2, 128};
  const cuuint32_t box[3] = {64, box_rows, panels};
  const cuuint32_t element_strides[3] = {1, 1, 1};
  return encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<void*>(data), dims, strides, box, element_strides,
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

bool encode_frames_map(CUtensorMap* map, const void* data, std::uint64_t channels, std::uint64_t width,
                       std::uint64_t height, std::uint64_t frames, std::uint32_t box_width, std::uint32_t box_height) {
  const auto encode = encode_function();
  if (encode == nullptr) return false;
  const cuuint64_t dims[4] = {channels, width, height, frames};
  const cuuint64_t strides[3] = {channels * 2, width * channels * 2, height * width * channels * 2};
  const cuuint32_t box[4] = {64, box_width, box_height, 1};
  const cuuint32_t element_strides[4] = {1, 1, 1, 1};
  return encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void*>(data), dims, strides, box, element_strides,
                CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

}  // namespace flashvsr::cuda
