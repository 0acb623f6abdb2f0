// The plain reference back end: every operation as loops that can be read beside the paper, and no library.
//
// bf16 means: activations and the weights of products are rounded to bf16 when stored, arithmetic is f32. The faster
// CPU back ends derive from this class and replace the operations that matter; their tests compare against it.
#pragma once

#include "ops/cpu/cpu_settings.h"
#include "ops/cpu/memory_pool.h"
#include "ops/operations.h"
#include "ops/prepared_weights.h"

#include <memory>
#include <string>
#include <vector>

namespace flashvsr::ops {

class ReferenceOperations : public Operations {
 public:
  explicit ReferenceOperations(const CpuSettings& settings);

  std::string name() const override { return "cpu-reference"; }
  DType compute_type() const override { return settings_.compute; }
  DType residual_type() const override { return settings_.residual; }
  void synchronize() override {}
  std::size_t memory_in_use() const override { return pool_->in_use(); }
  std::size_t peak_memory() const override { return pool_->peak(); }
  int host_threads() const override { return settings_.threads; }
  // Copies are done when they are started.
  Tensor transfer_memory(const Shape& shape, DType type) override { return zeros(shape, type); }
  Tensor host_memory(const Shape& shape, DType type) override { return allocate_host(shape, type); }

 protected:
  const CpuSettings& settings() const { return settings_; }
  PreparedWeights& prepared() { return prepared_; }

  // A pool tensor of the compute type with undefined contents.
  Tensor allocate_compute(const Shape& shape) { return do_allocate(shape, settings_.compute); }
  // x itself if it is f32 already, else a converted copy.
  Tensor as_f32(const Tensor& x) { return x.dtype() == DType::f32 ? x : do_cast(x, DType::f32); }
  // `f32_result` itself, or rounded to `type`.
  Tensor rounded(const Tensor& f32_result, DType type) {
    return type == DType::f32 ? f32_result : do_cast(f32_result, type);
  }
  // The values of a parameter as f32, kept.
  const std::vector<float>& f32_values(const Parameter& parameter);
  // The values of a parameter as f32, rounded to the compute type first: weights of products.
  std::vector<float> compute_values(const Parameter& parameter) const;

  std::size_t do_available_memory() const override;
  Tensor do_allocate(const Shape& shape, DType type) override;
  Tensor do_from_host(const Tensor& host, DType type) override;
  Tensor do_to_host(const Tensor& x) override;
  Tensor do_zeros(const Shape& shape, DType type) override;
  std::shared_ptr<Copies> do_start_copies(CopyDirection direction, std::span<const CopyPair> pairs,
                                          std::span<const std::shared_ptr<Copies>> after, CopyMarks* marks) override;
  void do_finish_copies(const Copies& copies) override;
  Tensor do_cast(const Tensor& x, DType type) override;
  Tensor do_concatenate(std::span<const Tensor> parts) override;
  void do_store(const Tensor& destination, std::int64_t begin, const Tensor& x) override;

  Tensor do_add(const Tensor& a, const Tensor& b, float sign) override;
  Tensor do_affine(const Tensor& x, float scale, float shift, DType type) override;
  Tensor do_channel_affine(const Tensor& x, const Tensor& scale, const Tensor& shift) override;
  Tensor do_activation(const Tensor& x, Activation kind) override;
  Tensor do_soft_clamp(const Tensor& x, float limit) override;
  Tensor do_clamp(const Tensor& x, float low, float high) override;

  Tensor do_resize_bicubic(const Tensor& frames, std::int64_t height, std::int64_t width) override;
  Tensor do_pad_edge(const Tensor& frames, std::int64_t height, std::int64_t width) override;
  Tensor do_crop(const Tensor& frames, std::int64_t top, std::int64_t left, std::int64_t height,
                 std::int64_t width) override;
  void do_add_tile(const Tensor& frame, const Tensor& tile, std::int64_t top, std::int64_t left,
                   const Tensor& row_weights, const Tensor& column_weights) override;
  Tensor do_space_to_depth(const Tensor& frames, std::int64_t spatial, std::int64_t temporal,
                           float soft_clamp) override;
  Tensor do_to_bytes(const Tensor& video) override;
  Tensor do_to_video(const Tensor& frames) override;
  Tensor do_read_image(const SemiPlanarImage& image) override;
  void do_write_image(const SemiPlanarImage& image, const Tensor& rgb) override;
  Tensor do_adain(const Tensor& video, const Tensor& reference) override;
  Tensor do_wavelet(const Tensor& video, const Tensor& reference) override;

  Tensor do_conv3d(const Tensor& front, const Tensor& x, const ConvWeights& weights,
                   const Conv3dOptions& options) override;
  Tensor do_channel_rms_norm(const Tensor& x, const Parameter& gamma, Activation activation) override;
  Tensor do_channels_to_frames(const Tensor& x) override;

  Tensor do_linear(const Tensor& x, const LinearWeights& weights, const LinearOptions& options) override;
  Tensor do_linear_concatenated(const Tensor& x, std::span<const LinearWeights> weights) override;
  Tensor do_layer_norm(const Tensor& x, const Parameter& weight, const Parameter& bias) override;
  Tensor do_layer_norm_modulated(const Tensor& x, const Tensor& scale, const Tensor& shift) override;
  Tensor do_rms_norm(const Tensor& x, const Parameter& weight) override;
  Tensor do_to_windows(const Tensor& x) override;
  Tensor do_patchify(const Tensor& latents) override;
  Tensor do_unpatchify(const Tensor& tokens, const TokenGrid& grid) override;
  QueryKeyValue do_split_qkv(const Tensor& qkv, const Parameter& norm_q, const Parameter& norm_k,
                             const TokenGrid& grid) override;
  Tensor do_block_scores(const Tensor& q_means, const KeyValueView& keys, const TokenGrid& grid,
                         const Locality& locality) override;
  BlockMask do_select_blocks(const Tensor& scores, std::int64_t window_blocks, const Selection& selection) override;
  BlockMask do_block_mask(const Tensor& host_mask) override;
  Tensor do_sparse_attention(const Tensor& q, const KeyValueView& keys, const BlockMask& mask,
                             std::int64_t heads) override;
  Tensor do_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t heads) override;

  Tensor do_conv2d(const Tensor& x, const ConvWeights& weights, const Conv2dOptions& options) override;
  Tensor do_upsample_conv2d(const Tensor& x, const ConvWeights& conv, Activation activation) override;
  Tensor do_upsample_grow_conv2d(const Tensor& x, const Parameter& grow, const ConvWeights& conv, std::int64_t frame,
                                 Activation activation) override;

  Tensor do_gaussian_noise(std::uint64_t seed, std::int64_t first_latent, std::int64_t latents, std::int64_t rows,
                           std::int64_t columns) override;

 private:
  template <typename Function>
  Tensor map(const Tensor& x, DType type, const Function& function);
  Tensor binomial_low_pass(const Tensor& x, std::int64_t dilation);
  void linear_into(const Tensor& x_f32, const LinearWeights& weights, const LinearOptions& options,
                   const Tensor& residual_f32, float* result, std::int64_t stride);
  template <typename Factor, typename Term>
  Tensor layer_normalised(const Tensor& x, const Factor& factor, const Term& term);
  const float* tap_weight(const Parameter& weight);
  Tensor convolved(const Tensor& x, const Tensor& second, const float* weight, const float* bias, std::int64_t out,
                   std::int64_t kh, std::int64_t kw, const Conv2dOptions& options);
  Tensor upsampled(const Tensor& x);

  CpuSettings settings_;
  std::shared_ptr<MemoryPool> pool_;
  PreparedWeights prepared_;
};

}  // namespace flashvsr::ops
