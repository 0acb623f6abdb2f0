// Models without values.
#pragma once

#include "weights/model_files.h"

namespace flashvsr::weights {

// A model of the sizes of `config` with zeros for weights, bf16, that take no memory: to plan with. It has the decoders
// that the configuration has sizes for. Throws Error(invalid_argument) if another size is missing.
ModelFiles unfilled_model(const ModelConfig& config);

}  // namespace flashvsr::weights
