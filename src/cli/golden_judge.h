// Judges what the engine computed by what a golden set holds.
#pragma once

#include "cli/golden_run.h"
#include "cli/golden_set.h"
#include "core/dtype.h"

#include <string>
#include <vector>

namespace flashvsr::cli {

struct GoldenRow {
  std::string name;
  double max_abs = 0;
  double relative_l2 = 0;
  double tolerance = 0;  // on relative_l2; for block masks on the number of wrong entries
  bool ok = false;
  std::string note;  // what is special about the row, or why there is nothing to compare
};

// One row for every tensor that a set has to hold and for every other one that it holds, inputs apart.
//
// f32: relative L2 <= tolerance.f32; 1e-3 for attention.q, .k and .v, which are compared after rounding to bf16, where
//   one unit in the last place flips here and there. Own block masks equal the given ones except for near-ties.
// bf16: relative L2 <= tolerance.bf16.<kind>. Kinds without one follow from those that have one: mean_std of frames has
//   at most the error of the frames (the sum of the squared errors of mean and deviation is at most the mean squared
//   error); the time embedding has at most the error of the velocity, whose input it is; hidden state and attention
//   inputs lie between the projector's tokens and the velocity and have at most the larger error of the two. Attention
//   scores and masks from the given q and k are exact products of bf16 values summed in f32, so f32 rules hold. Own
//   block masks of a bf16 run may flip where hidden states differ: see allowed_flips.
// Both: integers, upscaled frames and the prompt are equal.
std::vector<GoldenRow> judge(const GoldenSet& set, const GoldenRun& run, DType compute_type);

// Largest number of differing entries in an own bf16 mask of `entries`. Measured over sets, bf16 flips up to .7 % of
// the entries; with 1 % as the rate, and flips in pairs (one block out, one in), this is four standard deviations above
// the mean.
std::int64_t allowed_flips(std::int64_t entries);

}  // namespace flashvsr::cli
