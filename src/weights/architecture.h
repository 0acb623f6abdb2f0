// The tensors of each network: published names, and shapes as functions of the model's sizes.
#pragma once

#include "core/tensor.h"
#include "weights/model_files.h"

#include <map>
#include <string>

namespace flashvsr::weights {

using ShapeMap = std::map<std::string, Shape, std::less<>>;

// Of config: dim, ffn_dim, layers, text_dim, freq_dim.
ShapeMap dit_shapes(const ModelConfig& config);
// Of config: lq_hidden, dim.
ShapeMap projector_shapes(const ModelConfig& config);
// Of config: tc_channels.
ShapeMap decoder_shapes(const ModelConfig& config);
// Of config: vae_dim.
ShapeMap vae_shapes(const ModelConfig& config);

}  // namespace flashvsr::weights
