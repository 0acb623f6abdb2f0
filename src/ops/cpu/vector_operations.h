// Our own vectorised CPU code: attention, norms, frames and colour.
//
// Matrix products and convolutions are those of the reference; OneDnnOperations derives from this class and replaces
// them. The kernels (src/ops/cpu/kernels) are compiled for several instruction sets, and the best that the processor
// has is chosen when the back end is made, so the program itself starts on any processor.
#pragma once

#include "ops/cpu/reference_operations.h"
#include "ops/cpu/vector_isa.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace flashvsr::ops {

namespace kernels {
struct AttentionKernels;
struct KernelTable;
}  // namespace kernels

class VectorOperations : public ReferenceOperations {
 public:
  explicit VectorOperations(const CpuSettings& settings) : VectorOperations(settings, chosen_isa()) {}
  // `isa` must be available.
  VectorOperations(const CpuSettings& settings, Isa isa);

  std::string name() const override { return "cpu-vector"; }
  Isa isa() const { return isa_; }

 protected:
  Tensor do_cast(const Tensor& x, DType type) override;
  Tensor do_add(const Tensor& a, const Tensor& b, float sign) override;
  Tensor do_affine(const Tensor& x, float scale, float shift, DType type) override;
  Tensor do_channel_affine(const Tensor& x, const Tensor& scale, const Tensor& shift) override;
  Tensor do_activation(const Tensor& x, Activation kind) override;
  Tensor do_soft_clamp(const Tensor& x, float limit) override;
  Tensor do_clamp(const Tensor& x, float low, float high) override;

  Tensor do_resize_bicubic(const Tensor& frames, std::int64_t height, std::int64_t width) override;
  Tensor do_pad_edge(const Tensor& frames, std::int64_t height, std::int64_t width) override;
  Tensor do_space_to_depth(const Tensor& frames, std::int64_t spatial, std::int64_t temporal,
                           float soft_clamp) override;
  Tensor do_to_bytes(const Tensor& video) override;
  Tensor do_to_video(const Tensor& frames) override;
  Tensor do_adain(const Tensor& video, const Tensor& reference) override;
  Tensor do_wavelet(const Tensor& video, const Tensor& reference) override;

  Tensor do_channel_rms_norm(const Tensor& x, const Parameter& gamma, Activation activation) override;
  Tensor do_layer_norm(const Tensor& x, const Parameter& weight, const Parameter& bias) override;
  Tensor do_layer_norm_modulated(const Tensor& x, const Tensor& scale, const Tensor& shift) override;
  Tensor do_rms_norm(const Tensor& x, const Parameter& weight) override;
  Tensor do_to_windows(const Tensor& x) override;
  Tensor do_patchify(const Tensor& latents) override;
  Tensor do_unpatchify(const Tensor& tokens, const TokenGrid& grid) override;
  QueryKeyValue do_split_qkv(const Tensor& qkv, const Parameter& norm_q, const Parameter& norm_k,
                             const TokenGrid& grid) override;
  Query do_append_qkv(KvCache& cache, std::size_t layer, const Tensor& qkv, const Parameter& norm_q,
                      const Parameter& norm_k, const TokenGrid& grid) override;
  Tensor do_block_scores(const Tensor& q_means, const KeyValueView& keys, const TokenGrid& grid,
                         const Locality& locality) override;
  Tensor do_sparse_attention(const Tensor& q, const KeyValueView& keys, const BlockMask& mask,
                             std::int64_t heads) override;
  Tensor do_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t heads) override;

 private:
  // Cosines and sines of each axis [positions, channels], as the kernels want them; kept while the grid stays.
  struct RotaryTables {
    std::array<std::int64_t, 5> key{};
    std::array<std::vector<float>, 2> time, height, width;
  };

  const kernels::AttentionKernels& attention_kernels() const;
  Tensor layer_norm_rows(const Tensor& x, const float* scale, const float* shift);
  const RotaryTables& rotary_tables(const TokenGrid& grid, std::int64_t head_dim);
  // Writes q by blocks of the grid, k and v to block key_blocks[block] of theirs.
  void split_qkv_into(const Tensor& qkv, const Parameter& norm_q, const Parameter& norm_k, const TokenGrid& grid,
                      const QueryKeyValue& to, const std::vector<std::int64_t>& key_blocks);

  Isa isa_;
  const kernels::KernelTable& table_;
  RotaryTables rotary_;
};

}  // namespace flashvsr::ops
