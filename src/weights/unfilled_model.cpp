#include "weights/unfilled_model.h"

#include "weights/architecture.h"

#include <sys/mman.h>

#include <algorithm>
#include <memory>
#include <utility>

namespace flashvsr::weights {
namespace {

// Pages that only exist once they are read.
class Zeros final : public Storage {
 public:
  static std::shared_ptr<Storage> make(std::size_t bytes) {
    void* base = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) fail(ErrorCode::out_of_memory, "{} MB of addresses cannot be had", bytes >> 20);
    return std::make_shared<Zeros>(base, bytes);
  }
  Zeros(void* base, std::size_t bytes) : Storage(base, bytes) {}
  ~Zeros() override { munmap(data(), bytes()); }
};

}  // namespace

ModelFiles unfilled_model(const ModelConfig& config) {
  const bool complete = config.dim > 0 && config.heads > 0 && config.ffn_dim > 0 && config.layers > 0 &&
                        config.text_dim > 0 && config.text_tokens > 0 && config.freq_dim > 0 &&
                        config.lq_hidden[0] > 0 && config.lq_hidden[1] > 0;
  if (!complete) {
    fail(ErrorCode::invalid_argument,
         "the configuration of {} lacks a size: dim, num_heads, ffn_dim, num_layers, text_dim, text_tokens, freq_dim "
         "and lq_hidden are all needed",
         config.name);
  }
  ShapeMap decoder, vae;
  if (config.tc_channels[0] > 0) decoder = decoder_shapes(config);
  if (config.vae_dim > 0) vae = vae_shapes(config);
  const ShapeMap dit = dit_shapes(config), projector = projector_shapes(config);
  const Shape prompt{config.text_tokens, config.text_dim};
  std::int64_t most = prompt.elements();
  for (const ShapeMap* map : {&dit, &projector, &std::as_const(decoder), &std::as_const(vae)}) {
    for (const auto& [name, shape] : *map) most = std::max(most, shape.elements());
  }
  const auto zeros = Zeros::make(static_cast<std::size_t>(most) * size_of(DType::bf16));
  const auto fill = [&](const ShapeMap& shapes, WeightMap& weights) {
    for (const auto& [name, shape] : shapes) weights.emplace(name, Parameter(name, Tensor(shape, DType::bf16, zeros)));
  };
  ModelFiles files;
  files.config = config;
  fill(dit, files.dit);
  fill(projector, files.projector);
  fill(decoder, files.decoder);
  fill(vae, files.vae);
  files.prompt = Parameter("prompt", Tensor(prompt, DType::bf16, zeros));
  return files;
}

}  // namespace flashvsr::weights
