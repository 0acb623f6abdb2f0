// A kernel that is placed on the multiprocessors while the one before it ends, so that the pause between them goes:
// from sm_90 on. Before, it starts when the other has ended.
#pragma once

#include <cuda_runtime.h>

namespace flashvsr::cuda {

// In the kernel before: blocks of the next may be placed once every block has called this, that is, where none waits
// for a place any more.
__device__ __forceinline__ void let_next_be_placed() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" : : : "memory");
#endif
}

// In the kernel that launch_dependent launched: waits until the one before has ended and what it wrote can be read.
// Every block has to call it, those without work too: what comes later waits for this kernel alone.
__device__ __forceinline__ void wait_for_kernel_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" : : : "memory");
#endif
}

template <typename... Parameters>
cudaError_t launch_dependent(void (*kernel)(Parameters...), dim3 grid, unsigned threads, cudaStream_t stream,
                             const Parameters&... arguments) {
  // Code for an older GPU does not wait, even where the driver translated it for a newer one.
  cudaFuncAttributes attributes{};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, kernel);
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = attributes.ptxVersion >= 90 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

}  // namespace flashvsr::cuda
