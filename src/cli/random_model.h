// Models with random weights of any size: to measure speed where the trained weights are not at hand.
#pragma once

#include "weights/model_files.h"

#include <cstdint>
#include <string>

namespace flashvsr::cli {

// The sizes of the published model, without the Wan VAE.
weights::ModelConfig published_config();
// The sizes of the built-in model.
weights::ModelConfig nano_config();

// "published", "nano", or a JSON file of sizes, which may leave some out.
weights::ModelConfig read_config(const std::string& name);

// All tensors that `config` asks for, bf16, normally distributed enough to keep activations in range (deviation
// 1/sqrt(fan in)). With vae_dim > 0 also the Wan VAE. The same seed gives the same weights.
weights::ModelFiles random_model(const weights::ModelConfig& config, std::uint64_t seed);

}  // namespace flashvsr::cli
