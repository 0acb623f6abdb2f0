// The CUDA back end: every operation as kernels of ours, or as products of cuBLASLt.
//
// Two ways through most operations that multiply: a plain kernel that works for any shape and type (true f32 included:
// no TF32), and fast ones for bf16 and the shapes that networks have. Everything is issued on the device's one stream
// and nothing waits for it but synchronize() and to_host().
#pragma once

#include "ops/cuda/copy_streams.h"
#include "ops/cuda/device.h"
#include "ops/operations.h"
#include "ops/prepared_weights.h"

#include <memory>
#include <string>
#include <vector>

namespace flashvsr::cuda {
struct ConvolutionArguments;  // cuda/kernels/convolution.h
struct HopperWeightLayout;    // cuda/kernels/convolution_hopper.h
class ImageExchange;          // cuda/image_exchange.h
}  // namespace flashvsr::cuda

namespace flashvsr::ops {

struct CudaSettings {
  int device = 0;
  DType compute = DType::bf16;   // f32 or bf16: activations and weights of products; sums are f32
  DType residual = DType::bf16;  // of the DiT's residual stream
};

struct CudaLinear;          // cuda/linear.h: handle and plans of cuBLASLt
struct LinearOperands;      // cuda/linear.h
struct CudaAttention;       // cuda/attention.h: which kernels are used, work space
class CudaRope;             // cuda/rope_angles.h: angles of the newest grid
struct ConvolutionWeights;  // cuda/convolution.h
enum class ConvolutionPath : std::uint8_t;

class CudaOperations : public Operations {
 public:
  // Throws Error(device) if the device cannot be had.
  explicit CudaOperations(const CudaSettings& settings);
  ~CudaOperations() override;

  std::string name() const override { return "cuda"; }
  DType compute_type() const override { return settings_.compute; }
  DType residual_type() const override { return settings_.residual; }
  void synchronize() override;
  std::size_t memory_in_use() const override { return device_.activations().in_use(); }
  std::size_t peak_memory() const override { return device_.activations().peak(); }
  std::size_t device_memory() const override { return device_.held_memory(); }
  void enter_thread() noexcept override { cudaSetDevice(device_.index()); }
  Tensor transfer_memory(const Shape& shape, DType type) override;
  Tensor host_memory(const Shape& shape, DType type) override;
  Hardware hardware() const override;
  std::unique_ptr<Mark> mark() override;
  std::shared_ptr<Arrival> arrival() override;

 protected:
  std::size_t do_available_memory() const override;
  Tensor do_allocate(const Shape& shape, DType type) override;
  Tensor do_from_host(const Tensor& host, DType type) override;
  Tensor do_to_host(const Tensor& x) override;
  HostCopy do_start_to_host(const Tensor& x) override;
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
  cudaStream_t stream() const { return device_.stream(); }
  // In the order of what was issued to `stream`.
  static std::unique_ptr<Mark> mark_on(cudaStream_t stream);
  // An activation with undefined contents.
  Tensor allocate(const Shape& shape, DType type) const { return device_.allocate(shape, type); }
  // A parameter's values on the device in `type`, uploaded once and kept.
  const Tensor& on_device(const Parameter& parameter, DType type);
  // Host values on the device for as long as the back end lives (tables, merged weights).
  Tensor upload_weights(const void* host, const Shape& shape, DType host_type, DType type);

  // cuda/linear_operations.cpp. Made once; a gate multiplies the one layer there is, the bias is given in `bias_type`.
  const LinearOperands& linear_operands(std::span<const LinearWeights> weights, const Tensor* gate, DType bias_type);

  // cuda/convolution_operations.cpp. A convolution by the fastest kernel that can do it: those of the tensor cores
  // first (false: none of them can), then the plain one.
  void convolve(const cuda::ConvolutionArguments& arguments, const ConvolutionWeights& weights);
  bool convolve_fast(const cuda::ConvolutionArguments& arguments, const ConvolutionWeights& weights);
  const void* packed_weights(const ConvolutionWeights& weights, int granule);
  // cuda/hopper_convolution.cpp
  bool convolve_hopper(const cuda::ConvolutionArguments& arguments, const ConvolutionWeights& weights);
  const void* narrow_weights(const Parameter& weight);
  const void* hopper_weights(const ConvolutionWeights& weights, const cuda::HopperWeightLayout& layout);
  Tensor upsample_merged(const Tensor& x, const Parameter& grow, const ConvWeights& conv, std::int64_t frame,
                         Activation activation);

  CudaSettings settings_;
  cuda::Device device_;
  std::shared_ptr<cuda::CopyStreams> copies_;
  std::shared_ptr<cuda::ImageExchange> images_;
  PreparedWeights prepared_;
  std::unique_ptr<CudaLinear> linear_;
  const ConvolutionPath convolution_path_;
  std::unique_ptr<CudaAttention> attention_;
  std::unique_ptr<CudaRope> rope_;
};

}  // namespace flashvsr::ops
