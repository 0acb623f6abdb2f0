// Frames with a border around them, joined in time with the frames before them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace flashvsr::cuda {

struct BorderArguments {
  const void* front = nullptr;  // [front_frames, height, width, channels], or none
  const void* frames = nullptr;
  int front_frames = 0, frame_count = 0, height = 0, width = 0;
  int bytes = 0;  // of a pixel: a multiple of 16
  int border_y = 0, border_x = 0;
  bool edge = true;     // the nearest pixel, or zeros
  void* out = nullptr;  // [front_frames + frame_count, height + 2 border_y, width + 2 border_x, channels]
};

cudaError_t launch_pad_border(const BorderArguments& arguments, cudaStream_t stream);

}  // namespace flashvsr::cuda
