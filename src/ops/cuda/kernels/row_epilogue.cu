#include "ops/cuda/kernels/row_epilogue.h"

#include "ops/cuda/kernels/activation.cuh"
#include "ops/cuda/kernels/elements.cuh"

namespace flashvsr::cuda {
namespace {

constexpr int kThreads = 256;

// A thread keeps its columns and strides over rows. Sums and result may be the same memory: every element is read
// before it is written, by the same thread.
template <typename Residual, typename Out, int Width>
__global__ void __launch_bounds__(kThreads, 4) row_epilogue_kernel(const RowEpilogueArguments a) {
  const std::int64_t column = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * Width;
  if (column >= a.columns) return;
  float bias[Width], gate[Width];
#pragma unroll
  for (int i = 0; i < Width; ++i) {
    bias[i] = a.bias ? a.bias[column + i] : 0.0f;
    gate[i] = a.gate ? a.gate[column + i] : 1.0f;
  }
  const std::int64_t step = std::int64_t{gridDim.y} * blockDim.y;
  for (std::int64_t row = std::int64_t{blockIdx.y} * blockDim.y + threadIdx.y; row < a.rows; row += step) {
    const std::int64_t offset = row * a.columns + column;
    const auto sums = *reinterpret_cast<const Pack<float, Width>*>(a.sums + offset);
    Pack<Residual, Width> residual;
    if (a.residual) {
      residual = *reinterpret_cast<const Pack<Residual, Width>*>(static_cast<const Residual*>(a.residual) + offset);
    }
    Pack<Out, Width> out;
#pragma unroll
    for (int i = 0; i < Width; ++i) {
      float value = gate[i] * activate(sums.values[i] + bias[i], a.activation);
      if (a.residual) value += to_float(residual.values[i]);
      out.values[i] = from_float<Out>(value);
    }
    *reinterpret_cast<Pack<Out, Width>*>(static_cast<Out*>(a.out) + offset) = out;
  }
}

template <typename X, typename Out>
__global__ void __launch_bounds__(kThreads)
    scale_rows_kernel(const X* __restrict__ x, const float* __restrict__ gate, Out* __restrict__ out,
                      std::int64_t elements, std::int64_t columns) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < elements; i += step) {
    out[i] = from_float<Out>(gate[i / columns] * to_float(x[i]));
  }
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

}  // namespace

cudaError_t launch_row_epilogue(const RowEpilogueArguments& arguments, cudaStream_t stream) {
  if (arguments.rows == 0 || arguments.columns == 0) return cudaSuccess;
  const bool wide =
      arguments.columns % 4 == 0 && aligned(arguments.sums) && aligned(arguments.residual) && aligned(arguments.out);
  const std::int64_t packs = wide ? arguments.columns / 4 : arguments.columns;
  unsigned across = 1;
  while (across < kThreads && across < packs) across *= 2;
  const dim3 block(across, kThreads / across);
  const dim3 grid(static_cast<unsigned>((packs + across - 1) / across), blocks_for(arguments.rows, block.y, 4096));
  return with_float_type(arguments.residual_type, [&]<typename Residual>(Residual) {
    return with_float_type(arguments.out_type, [&]<typename Out>(Out) {
      if (wide) {
        row_epilogue_kernel<Residual, Out, 4><<<grid, block, 0, stream>>>(arguments);
      } else {
        row_epilogue_kernel<Residual, Out, 1><<<grid, block, 0, stream>>>(arguments);
      }
      return cudaGetLastError();
    });
  });
}

cudaError_t launch_scale_rows(const void* x, DType x_type, const float* gate, void* out, DType out_type,
                              std::int64_t rows, std::int64_t columns, cudaStream_t stream) {
  const std::int64_t elements = rows * columns;
  if (elements == 0) return cudaSuccess;
  return with_float_type(x_type, [&]<typename X>(X) {
    return with_float_type(out_type, [&]<typename Out>(Out) {
      scale_rows_kernel<<<blocks_for(elements, kThreads), kThreads, 0, stream>>>(
          static_cast<const X*>(x), gate, static_cast<Out*>(out), elements, columns);
      return cudaGetLastError();
    });
  });
}

}  // namespace flashvsr::cuda
