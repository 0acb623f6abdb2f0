// Which rows of the mask, or parts of them, each block of a persistent grid works on.
//
// Rows are handed out in rounds of one row a block of the persistent grid, in order, so that at any time the
// grid works on few heads and their K and V stay in L2; in each round the longest row goes to the block that has had
// least, so that blocks do not drift apart. The last rows (the tail) are cut where it makes all blocks finish together;
// a row that a cut goes through is left as partial results (unnormalised output, maximum and sum) and combined
// afterwards. Everything follows from the row lengths alone, so results are equal from run to run.
#pragma once

#include <cstdint>

namespace flashvsr::cuda {

constexpr int kMaxRounds = 512, kMaxAttentionRows = 65535;

struct AttentionRows {
  const int* offsets;  // [count + 1]: row r has kept blocks [offsets[r], offsets[r + 1])
  int count;
  int rounds;  // of one whole row a block
  int tail;    // rows from here on are cut to balance the load
};

// The part of a row that a block works on, in kept blocks.
struct Segment {
  int row, begin, end;
};

// Walks the segments of a block; producer and consumers step through them alike.
class Schedule {
 public:
  // whole_rows: this block's row of each round. cuts[c] .. cuts[c + 1]: the tail's kept blocks that block c takes.
  __device__ Schedule(const AttentionRows& rows, const std::uint16_t* whole_rows, const int* cuts)
      : offsets_(rows.offsets),
        whole_rows_(whole_rows),
        rows_(rows.count),
        tail_row_(rows.tail),
        rounds_(rows.rounds),
        tail_begin_(cuts[blockIdx.x]),
        tail_end_(cuts[blockIdx.x + 1]) {}

  // The next segment that is not empty, or false at the end.
  __device__ bool next(Segment& segment) {
    while (round_ < rounds_) {
      const int row = whole_rows_[round_++];
      segment = {row, offsets_[row], offsets_[row + 1]};
      if (segment.begin < segment.end) return true;
    }
    if (tail_begin_ >= tail_end_) return false;
    if (tail_segment_row_ < 0) tail_segment_row_ = row_of(tail_begin_);
    while (offsets_[tail_segment_row_ + 1] <= tail_begin_) ++tail_segment_row_;
    segment = {tail_segment_row_, tail_begin_, min(offsets_[tail_segment_row_ + 1], tail_end_)};
    tail_begin_ = segment.end;
    return true;
  }

 private:
  // The row that holds a kept block: the last one that starts at or before it.
  __device__ int row_of(int item) const {
    int low = tail_row_, high = rows_;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (offsets_[middle] <= item)
        low = middle;
      else
        high = middle;
    }
    return low;
  }

  const int* offsets_;
  const std::uint16_t* whole_rows_;
  int rows_, tail_row_, rounds_, tail_begin_, tail_end_;
  int round_ = 0;
  int tail_segment_row_ = -1;
};

// Scratch of make_schedule; lies where the tiles come later.
template <int Threads>
struct ScheduleScratch {
  static constexpr int kMaxGrid = Threads - 1;
  int load[kMaxGrid];                                                 // of blocks so far
  unsigned load_key[kMaxGrid], length_key[kMaxGrid];                  // what they are ordered by, no two alike
  int load_rank[kMaxGrid], length_rank[kMaxGrid], by_load[kMaxGrid];  // by_load: blocks, least loaded first
  int cuts[kMaxGrid + 1];
  int sums[Threads / 32];
};

// A key that orders by value, then by number.
__device__ inline unsigned order_key(int value, int number) {
  constexpr int kNumberBits = 9;
  // Beyond that, where no video comes, blocks would merely be loaded less evenly.
  constexpr int kMost = (1 << (32 - kNumberBits)) - 1;
  return static_cast<unsigned>(min(value, kMost)) << kNumberBits | static_cast<unsigned>(number);
}

// Run by all threads of every block alike; the grid has fewer blocks than a block has threads.
template <int Threads>
__device__ void make_schedule(const AttentionRows& rows, ScheduleScratch<Threads>& shared, std::uint16_t* whole_rows) {
  static_assert(Threads <= 512, "order_key has nine bits for a number");
  const int grid = static_cast<int>(gridDim.x), thread = static_cast<int>(threadIdx.x);
  // Several threads count for the same block, each among a part of the others.
  const int parts = Threads / grid, part = thread / grid, counted = thread % grid;
  const int part_begin = part * grid / parts, part_end = (part + 1) * grid / parts;
  if (thread < grid) shared.load[thread] = 0;
  for (int round = 0; round < rows.rounds; ++round) {
    const int row = round * grid + thread;
    const int length = thread < grid ? rows.offsets[row + 1] - rows.offsets[row] : 0;
    if (thread < grid) {
      shared.load_key[thread] = order_key(shared.load[thread], thread);
      shared.length_key[thread] = order_key(length, grid - 1 - thread);
      shared.load_rank[thread] = shared.length_rank[thread] = 0;
    }
    __syncthreads();
    if (part < parts) {
      const unsigned load_key = shared.load_key[counted], length_key = shared.length_key[counted];
      int load_rank = 0, length_rank = 0;
#pragma unroll 4
      for (int other = part_begin; other < part_end; ++other) {
        load_rank += shared.load_key[other] < load_key;
        length_rank += shared.length_key[other] > length_key;
      }
      atomicAdd(&shared.load_rank[counted], load_rank);
      atomicAdd(&shared.length_rank[counted], length_rank);
    }
    __syncthreads();
    if (thread < grid) shared.by_load[shared.load_rank[thread]] = thread;
    __syncthreads();
    // The row of rank r goes to the block of rank r.
    if (thread < grid) {
      const int block = shared.by_load[shared.length_rank[thread]];
      shared.load[block] += length;
      if (block == static_cast<int>(blockIdx.x)) whole_rows[round] = static_cast<std::uint16_t>(row);
    }
    __syncthreads();
  }
  const int load = thread < grid ? shared.load[thread] : 0;

  // The tail: a block gets what it lacks to an equal share of all work.
  int* const cuts = shared.cuts;
  int* const scratch = shared.sums;
  const int total = rows.offsets[rows.count], tail = rows.offsets[rows.tail];
  // + 1, so that an exact fit leaves something to divide by.
  const int lack = thread < grid ? max(0, total / grid - load) + 1 : 0;
  // Inclusive scan over the block.
  int sum = lack;
  for (int distance = 1; distance < 32; distance *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, sum, distance);
    if (thread % 32 >= distance) sum += other;
  }
  if (thread % 32 == 31) scratch[thread / 32] = sum;
  __syncthreads();
  int before = 0, all = 0;
  for (int warp = 0; warp < Threads / 32; ++warp) {
    if (warp < thread / 32) before += scratch[warp];
    all += scratch[warp];
  }
  sum += before;
  if (thread == 0) cuts[0] = tail;
  if (thread < grid) cuts[thread + 1] = tail + static_cast<int>(static_cast<long long>(total - tail) * sum / all);
  __syncthreads();
}

}  // namespace flashvsr::cuda
