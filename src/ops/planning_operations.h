// A back end that computes nothing: it finds out how much memory networks need.
#pragma once

#include "ops/operations.h"
#include "ops/range_allocator.h"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace flashvsr::ops {

struct PlanningSettings {
  DType compute = DType::bf16;
  DType residual = DType::bf16;
  // Weights are copied to the memory that is planned, as on a device; else they stay where they were loaded.
  bool own_memory = true;
};

// Tensors have shapes and places in a memory pool like a device's, but no memory behind them: running networks on it
// costs next to nothing and takes what they take elsewhere, in the same order. Work space inside of operations and
// forms of weights are those of the CUDA back end. Host tensors that it is given are not read.
class PlanningOperations final : public Operations {
 public:
  explicit PlanningOperations(const PlanningSettings& settings);

  // Bytes of weights in the forms that products take, and of the libraries' work space.
  std::size_t weights() const { return weights_; }
  // Bytes between the first and the last tensor, gaps included.
  std::size_t held() const;
  // Bytes of the host's memory that state takes.
  std::size_t host_bytes() const { return host_bytes_; }
  // The most bytes of living tensors while a part of the profile was at work.
  const std::map<std::string, std::size_t>& peaks() const { return peaks_; }
  void forget_peaks() { peaks_.clear(); }

  std::string name() const override { return "plan"; }
  DType compute_type() const override { return settings_.compute; }
  DType residual_type() const override { return settings_.residual; }
  void synchronize() override {}
  std::size_t memory_in_use() const override;
  std::size_t peak_memory() const override;
  Tensor transfer_memory(const Shape& shape, DType type) override { return zeros(shape, type); }
  Tensor host_memory(const Shape& shape, DType type) override;

 protected:
  std::size_t do_available_memory() const override { return kUnboundedMemory; }
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
  void do_add_tile(const Tensor&, const Tensor&, std::int64_t, std::int64_t, const Tensor&, const Tensor&) override {}
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
  Query do_append_qkv(KvCache& cache, std::size_t layer, const Tensor& qkv, const Parameter& norm_q,
                      const Parameter& norm_k, const TokenGrid& grid) override;
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
  class Pool;

  Tensor like(const Tensor& x) { return do_allocate(x.shape(), x.dtype()); }
  // `bytes` of weights, once for each key of parameter ids and addresses of gates.
  void keep(std::vector<std::uint64_t> key, std::int64_t elements, DType type);
  void keep_vector(const Parameter& parameter, DType type);
  void keep_linear(std::span<const LinearWeights> weights, const Tensor* gate, DType bias_type);
  // A convolution of sources of so many channels, as `parts` convolutions of `taps` places.
  void keep_convolution(const Parameter& weight, std::int64_t first, std::int64_t second, std::int64_t parts,
                        std::int64_t taps);

  PlanningSettings settings_;
  std::shared_ptr<Pool> pool_;
  std::map<std::vector<std::uint64_t>, std::size_t> kept_;
  std::size_t weights_ = 0, host_bytes_ = 0;
  std::map<std::string, std::size_t> peaks_;
};

}  // namespace flashvsr::ops
