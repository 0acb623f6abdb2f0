// Runs the networks over the inputs of a golden set and keeps every tensor that the set holds.
#pragma once

#include "cli/block_choice.h"
#include "cli/golden_set.h"
#include "core/tensor.h"
#include "ops/operations.h"
#include "weights/model_files.h"

#include <map>
#include <string>

namespace flashvsr::cli {

struct GoldenRun {
  // Host tensors in the names, layouts and shapes of the set; floats as f32.
  std::map<std::string, Tensor> outputs;
  // For every block mask whose given mask is there and has the right shape.
  std::map<std::string, MaskComparison> masks;
};

// Downstream of a block choice the given masks are used. With own_masks the engine's choice is used instead wherever it
// differs by more than near-ties. The published schedule, without repeated frames: F = 8n+1 frames in, F - 4 out.
// Throws Error(format) when inputs of the set do not fit each other or the model.
GoldenRun run_golden_set(ops::Operations& operations, const weights::ModelFiles& files, const GoldenSet& set,
                         bool own_masks);

}  // namespace flashvsr::cli
