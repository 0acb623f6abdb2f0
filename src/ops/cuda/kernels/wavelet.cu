// The low pass is linear, so low(reference) - low(video) = low(reference - video): one image to filter instead of two.
// It is a product of a filter along rows and one along columns, which commute, edges included: all five levels along
// rows first, then all five along columns.
//
// A thread walks along its line and takes every value through all levels at once: what a level still needs of its input
// lies in registers. Level l reaches 2^l to either side and so is that far behind its input; what it gives is the input
// of the next.
#include "ops/cuda/kernels/wavelet.h"

#include "ops/cuda/kernels/pixels.cuh"
#include "ops/cuda/ptx/mbarrier.cuh"
#include "ops/cuda/ptx/mma.cuh"

#include <algorithm>

namespace flashvsr::cuda {
namespace {

constexpr int kLevels = 5;
// Pixels on either side that a result depends on, and that it is behind its input: 1 + 2 + 4 + 8 + 16.
constexpr int kReach = (1 << kLevels) - 1;
// After so many steps every value of a level's memory lies where it lay, so that its place is known to the compiler.
constexpr int kTurn = 1 << kLevels;
// Every level gives four times its mean.
constexpr float kScale = 1.0f / (1 << (2 * kLevels));

// What a walk is told of its line.
struct Line {
  int first, last;  // the first value that it is given, the last one there is
  bool at_start;    // the first value is the line's first: what is before it repeats it at every level
};

template <int Level, bool End>
class Filter {
 public:
  // Step is the step's number modulo kTurn. At a line's start the first value comes in step kDistance - 1 of the first
  // turn. `over`: the line's last value came before.
  template <int Step>
  __device__ __forceinline__ float pass(float value, bool first_turn, int over) {
    float& before = past_[Step % kMemory];
    if constexpr (End && Level > 0) {
      if (over >= kDistance) value = past_[(Step + kMemory - 1) % kMemory];
    }
    if constexpr (Step == kDistance - 1) {
      if (first_turn) {
#pragma unroll
        for (float& past : past_) past = value;
      }
    }
    const float result = 2.0f * past_[(Step + kDistance) % kMemory] + (before + value);
    before = value;
    if constexpr (Level + 1 < kLevels) {
      return next_.template pass<Step>(result, first_turn, over);
    } else {
      return kScale * result;
    }
  }

 private:
  struct Nothing {};
  template <int L, bool E, bool IsThere>
  struct Next {
    using Type = Nothing;
  };
  template <int L, bool E>
  struct Next<L, E, true> {
    using Type = Filter<L, E>;
  };
  static constexpr int kDistance = 1 << Level, kMemory = 2 * kDistance;
  float past_[kMemory] = {};
  typename Next<Level + 1, End, (Level + 1 < kLevels)>::Type next_;
};

// Input::kAhead inputs are read together, while as many are worked on.
template <typename Input>
using Inputs = Input[Input::kAhead];

template <int Step, typename Walk, typename Input, typename Emit>
__device__ __forceinline__ void take(Walk& walk, const Inputs<Input>& inputs, int index, const Line& line,
                                     bool first_turn, const Emit& emit) {
  constexpr int kAhead = Input::kAhead;
  const int at = index + Step % kAhead;
  const Input& input = inputs[Step % kAhead];
  emit(at - kReach, walk.template pass<Step>(input.value, first_turn, at - line.last), input);
  if constexpr (Step % kAhead + 1 < kAhead) take<Step + 1, Walk, Input>(walk, inputs, index, line, first_turn, emit);
}

template <int Step, typename Walk, typename Input, typename Read, typename Emit>
__device__ __forceinline__ void take_turn(Walk& walk, Inputs<Input>& now, Inputs<Input>& next, int index,
                                          const Line& line, bool first_turn, const Read& read, const Emit& emit) {
  constexpr int kAhead = Input::kAhead;
  static_assert(kTurn % (2 * kAhead) == 0);
  read.template group<(Step + kAhead) % kTurn>(next, index + kAhead);
  take<Step, Walk, Input>(walk, now, index, line, first_turn, emit);
  if constexpr (Step + kAhead < kTurn) {
    take_turn<Step + kAhead, Walk, Input>(walk, next, now, index + kAhead, line, first_turn, read, emit);
  }
}

// Calls emit(i, low band of value i, what read gave kReach values later) for i from line.first - kReach on, `steps`
// times or a few more. read.group<Step>(inputs, i) gives value i of the line and those after it, in turn; Step is
// i - line.first modulo kTurn. It is asked for some beyond the last, which then is repeated.
template <bool End, typename Input, typename Read, typename Emit>
__device__ __forceinline__ void walk_line(const Line& line, int steps, const Read& read, const Emit& emit) {
  Filter<0, End> walk;
  Inputs<Input> now, next;
  read.template group<0>(now, line.first);
#pragma unroll 1
  for (int turn = 0; turn < steps; turn += kTurn) {
    take_turn<0, Filter<0, End>, Input>(walk, now, next, line.first + turn, line, line.at_start && turn == 0, read,
                                        emit);
  }
}

// ---------------------------------------------------------------------------------------------------- along rows

constexpr int kRowThreads = 128;
constexpr int kRows = 32;          // of a block: a lane each
constexpr int kRowPixels = 128;    // of a block's result
constexpr int kRowMargin = kTurn;  // pixels in front of them, kReach of which are needed
constexpr int kRowValues = (kRowMargin + kRowPixels + kReach + 1) * kRgb;
// Threads are three channels of a row, then those of the next: with this pitch they read different banks.
constexpr int kRowPitch = kRowValues + kRgb;
static_assert(kRowPitch % 32 == kRgb);
static_assert(kRows * kRgb <= kRowThreads);
constexpr int kRowShared = kRows * kRowPitch * static_cast<int>(sizeof(float));

struct RowInput {
  static constexpr int kAhead = 8;
  float value;
};

struct RowReader {
  const float* row;
  const Line& line;

  template <int>
  __device__ __forceinline__ void group(Inputs<RowInput>& inputs, int index) const {
#pragma unroll
    for (int i = 0; i < RowInput::kAhead; ++i) {
      inputs[i].value = row[(min(index + i, line.last) - line.first) * kRgb];
    }
  }
};

// `row` begins with the line's first value, `result` lies in it.
template <bool End>
__device__ __forceinline__ void walk_row(float* row, const Line& line, int begin, int count) {
  float* result = row + (begin - line.first) * kRgb;
  walk_line<End, RowInput>(line, begin - line.first + count + kReach, RowReader{row, line},
                           [&](int i, float low, const RowInput&) {
                             const int at = i - begin;
                             if (static_cast<unsigned>(at) < static_cast<unsigned>(count)) result[at * kRgb] = low;
                           });
}

// Grid: groups of rows of all frames, parts of a row. across = filtered (reference - video).
__global__ void __launch_bounds__(kRowThreads, 3)
    low_pass_rows_kernel(const float* __restrict__ video, const std::uint8_t* __restrict__ reference,
                         float* __restrict__ across, std::int64_t rows, int width) {
  extern __shared__ uint4 dynamic_shared[];
  auto* values = reinterpret_cast<float*>(dynamic_shared);
  const auto thread = static_cast<int>(threadIdx.x);
  const std::int64_t first_row = std::int64_t{blockIdx.x} * kRows;
  const int row_count = static_cast<int>(min(rows - first_row, std::int64_t{kRows}));
  const int begin = static_cast<int>(blockIdx.y) * kRowPixels, count = min(width - begin, kRowPixels);
  const int low = max(begin - kRowMargin, 0), high = min(begin + kRowPixels + kReach + 1, width);
  const std::int64_t offset = (first_row * width + low) * kRgb, stride = std::int64_t{width} * kRgb;
  const int loaded = (high - low) * kRgb;
#pragma unroll 4
  for (int row = 0; row < row_count; ++row) {
#pragma unroll
    for (int k = 0; k < (kRowValues + kRowThreads - 1) / kRowThreads; ++k) {
      const int i = k * kRowThreads + thread;
      if (i >= loaded) continue;
      const std::int64_t at = offset + row * stride + i;
      values[row * kRowPitch + i] = video_value(reference[at]) - video[at];
    }
  }
  __syncthreads();
  if (thread < row_count * kRgb) {
    float* row = values + thread / kRgb * kRowPitch + thread % kRgb;
    const Line line{low, high - 1, low == 0};
    if (high == width) {
      walk_row<true>(row, line, begin, count);
    } else {
      walk_row<false>(row, line, begin, count);
    }
  }
  __syncthreads();
#pragma unroll 4
  for (int row = 0; row < row_count; ++row) {
#pragma unroll
    for (int k = 0; k < kRowPixels * kRgb / kRowThreads; ++k) {
      const int i = k * kRowThreads + thread;
      const int from = (begin - low) * kRgb + i;
      if (i < count * kRgb) across[offset + row * stride + from] = values[row * kRowPitch + from];
    }
  }
}

// ------------------------------------------------------------------------------------------------- along columns

constexpr int kColumnThreads = 128;  // values of a row, a block
constexpr int kColumnRows = 256;     // of a block's result

struct ColumnInput {
  static constexpr int kAhead = 4;
  float value, video;
};

// A turn's inputs of every column: so many are on their way that memory is never idle, which registers could not hold.
// A thread reads what it has fetched itself.
struct ColumnRing {
  float across[kTurn][kColumnThreads], video[kTurn][kColumnThreads];
};

// A block's columns. Places are counted from the block's first: few enough for 32 bits, which halves the instructions
// of an access.
struct ColumnReader {
  static constexpr int kAhead = ColumnInput::kAhead, kGroups = kTurn / kAhead;
  ColumnRing& ring;
  const float *across, *video;  // from the line's first value, from the block's first result
  int row_values;
  int last, last_result;  // of the line, as far as results depend on it; of the block
  int margin;             // rows of the line before the block's first result

  __device__ __forceinline__ unsigned place(int row) const {
    return static_cast<unsigned>(row * row_values) + threadIdx.x;
  }
  // What comes with value i is of the result that it completes.
  template <int Step>
  __device__ __forceinline__ void fetch(int index) const {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int result = min(max(index + i - kReach - margin, 0), last_result);
      ptx::copy_async_4(ptx::shared_address(&ring.across[Step + i][threadIdx.x]), across + place(min(index + i, last)));
      ptx::copy_async_4(ptx::shared_address(&ring.video[Step + i][threadIdx.x]), video + place(result));
    }
    ptx::copy_async_commit();
  }
  template <int Group = 0>
  __device__ __forceinline__ void begin() const {
    fetch<Group * kAhead>(Group * kAhead);
    if constexpr (Group + 2 < kGroups) begin<Group + 1>();
  }
  // Takes a group, in whose predecessor's place the next is fetched that is not on its way.
  template <int Step>
  __device__ __forceinline__ void group(Inputs<ColumnInput>& inputs, int index) const {
    ptx::copy_async_wait<kGroups - 2>();
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      inputs[i] = {ring.across[Step + i][threadIdx.x], ring.video[Step + i][threadIdx.x]};
    }
    fetch<(Step + kTurn - kAhead) % kTurn>(index + kTurn - kAhead);
  }
};

// Grid: parts of a row, parts of a column, frames. result = clamp(video + filtered across).
template <bool End>
__device__ __forceinline__ void walk_column(const float* __restrict__ video, const float* __restrict__ across,
                                            float* __restrict__ result, int height, int row_values, ColumnRing& ring) {
  const int begin = static_cast<int>(blockIdx.y) * kColumnRows, count = min(height - begin, kColumnRows);
  const int low = max(begin - kTurn, 0), first_column = static_cast<int>(blockIdx.x) * kColumnThreads;
  if (first_column + static_cast<int>(threadIdx.x) >= row_values) return;
  const std::int64_t frame = std::int64_t{blockIdx.z} * height * row_values + first_column;
  const int margin = begin - low, steps = margin + count + kReach, last = height - low - 1;
  const ColumnReader reader{.ring = ring,
                            .across = across + frame + std::int64_t{low} * row_values,
                            .video = video + frame + std::int64_t{begin} * row_values,
                            .row_values = row_values,
                            .last = min(last, steps - 1),
                            .last_result = count - 1,
                            .margin = margin};
  float* to = result + frame + std::int64_t{begin} * row_values;
  reader.begin();
  walk_line<End, ColumnInput>(Line{0, last, low == 0}, steps, reader,
                              [&](int i, float low_band, const ColumnInput& input) {
                                const int at = i - margin;
                                if (static_cast<unsigned>(at) >= static_cast<unsigned>(count)) return;
                                to[reader.place(at)] = fminf(fmaxf(input.video + low_band, -1.0f), 1.0f);
                              });
}

// Blocks on a multiprocessor. What comes after Hopper would spill registers with four.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int kColumnBlocks = 3;
#else
constexpr int kColumnBlocks = 4;
#endif

__global__ void __launch_bounds__(kColumnThreads, kColumnBlocks)
    low_pass_columns_kernel(const float* __restrict__ video, const float* __restrict__ across,
                            float* __restrict__ result, int height, int row_values) {
  __shared__ ColumnRing ring;
  if ((static_cast<int>(blockIdx.y) + 1) * kColumnRows + kReach >= height) {
    walk_column<true>(video, across, result, height, row_values, ring);
  } else {
    walk_column<false>(video, across, result, height, row_values, ring);
  }
}

// What a grid takes of its third extent.
constexpr std::int64_t kLaunchFrames = 65535;

}  // namespace

cudaError_t launch_wavelet(const float* video, const std::uint8_t* reference, float* result, std::int64_t frames,
                           std::int64_t height, std::int64_t width, float* across, cudaStream_t stream) {
  if (frames == 0) return cudaSuccess;
  const auto parts = [](std::int64_t items, std::int64_t per_part) {
    return static_cast<unsigned>((items + per_part - 1) / per_part);
  };
  cudaError_t status =
      cudaFuncSetAttribute(low_pass_rows_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kRowShared);
  if (status != cudaSuccess) return status;
  const std::int64_t row_values = width * kRgb;
  for (std::int64_t frame = 0; frame < frames; frame += kLaunchFrames) {
    const std::int64_t count = std::min(kLaunchFrames, frames - frame), offset = frame * height * row_values;
    low_pass_rows_kernel<<<dim3(parts(count * height, kRows), parts(width, kRowPixels)), kRowThreads, kRowShared,
                           stream>>>(video + offset, reference + offset, across + offset, count * height,
                                     static_cast<int>(width));
    status = cudaGetLastError();
    if (status != cudaSuccess) return status;
    const dim3 columns(parts(row_values, kColumnThreads), parts(height, kColumnRows), static_cast<unsigned>(count));
    low_pass_columns_kernel<<<columns, kColumnThreads, 0, stream>>>(
        video + offset, across + offset, result + offset, static_cast<int>(height), static_cast<int>(row_values));
    status = cudaGetLastError();
    if (status != cudaSuccess) return status;
  }
  return cudaSuccess;
}

}  // namespace flashvsr::cuda
