// The one interface between networks and compute: about 40 operations in the field's terms.
//
// Networks (src/models) are written over Operations alone. Every back end implements it: the plain reference and the
// fast CPU code (src/ops/cpu), CUDA, LibTorch for training. The public functions check shapes and types once for all
// back ends, count the work, and call the virtual do_... functions.
//
// Conventions
// - Frames and feature maps are channels-last: [frames, height, width, channels]. Tokens are [tokens, dim].
// - "Compute type" is f32 or bf16, chosen when the back end is made. Sums, norms, softmax and colour run in f32.
// - Operations are functional: inputs never change and outputs are new tensors (views share storage). The exceptions,
//   which change stream state or somebody's memory, are append_qkv, store, add_tile and write_image; they are marked
//   STATE, as are KvCache::release and start_copies.
// - Results do not depend on the number of threads beyond rounding; on one back end and thread count they are equal bit
//   for bit from run to run.
#pragma once

#include "core/parameter.h"
#include "core/tensor.h"
#include "ops/copies.h"
#include "ops/host_copy.h"
#include "ops/kv_cache.h"
#include "ops/profile.h"
#include "ops/types.h"

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace flashvsr::ops {

inline constexpr std::size_t kUnboundedMemory = ~std::size_t{0};

class Operations {
 public:
  virtual ~Operations() = default;

  // "cpu", "cpu-reference", "cuda", ...
  virtual std::string name() const = 0;
  virtual DType compute_type() const = 0;
  // Type of the residual stream of the DiT.
  virtual DType residual_type() const = 0;
  // Waits until everything issued so far is done, copies included.
  virtual void synchronize() = 0;
  // Bytes of activations and stream state: now, and the most at any time.
  virtual std::size_t memory_in_use() const = 0;
  virtual std::size_t peak_memory() const = 0;
  // Bytes that the back end has taken from a device of its own for everything: weights, state, activations, tables and
  // work space. It gives none of them back while it lives. 0: it works in the host's memory.
  virtual std::size_t device_memory() const { return 0; }
  // Bytes that the back end may hold in all: those that it has taken and those that are free, or the machine's; at most
  // the limit that was set. kUnboundedMemory: whatever is asked for.
  std::size_t available_memory() const { return std::min(memory_limit_, do_available_memory()); }
  // Bytes that streams are planned for. Not set: all that there is.
  void limit_memory(std::size_t bytes) { memory_limit_ = bytes; }
  // Threads of this process that an operation runs on; 0: those of the calling thread's settings. The public functions
  // see to it.
  virtual int host_threads() const { return 0; }
  // To be called by a thread other than the one that made the back end before it uses it: CUDA has a current device for
  // every thread. What fails in it fails again in the first operation.
  virtual void enter_thread() noexcept {}
  // The device of a back end that has one of its own.
  virtual Hardware hardware() const { return {}; }
  Profile& profile() { return profile_; }
  // The place behind all that was issued so far; null from back ends that have done it when an operation returns.
  virtual std::unique_ptr<Mark> mark() { return nullptr; }
  // Waits for the device and completes the profile's entries.
  const Profile::Entries& finish_profile();
  void clear_profile();

  // ---- memory -------------------------------------------------------------------------------------------------
  // `host` is a host tensor; float data is converted to `type`, other types are copied as they are.
  Tensor from_host(const Tensor& host, DType type);
  Tensor from_host(const Tensor& host) { return from_host(host, host.dtype()); }
  // A host tensor of the same type.
  Tensor to_host(const Tensor& x);
  // The same without waiting: device back ends copy behind what was issued so far, others at once. The host tensor may
  // outlive the back end.
  HostCopy start_to_host(const Tensor& x);
  // Arrives when everything issued so far is done; null from back ends that have done it when an operation returns.
  virtual std::shared_ptr<Arrival> arrival() { return nullptr; }
  // A parameter as a tensor, for the few that are used as values (tables, statistics).
  Tensor constant(const Parameter& parameter, DType type);
  Tensor zeros(const Shape& shape, DType type);
  Tensor cast(const Tensor& x, DType type);
  // Along the outermost dimension; all of one type.
  Tensor concatenate(std::span<const Tensor> parts);
  // STATE. Copies `x` over entries [begin, begin + x.dim(0)) of `destination`.
  void store(const Tensor& destination, std::int64_t begin, const Tensor& x);

  // ---- state in the host's memory --------------------------------------------------------------------------------
  // For what does not fit on a device (KvCache). Zeros that copies may read and write: before they go they wait for
  // copies that are under way.
  virtual Tensor transfer_memory(const Shape& shape, DType type) = 0;
  // Memory of the host for such copies, contents undefined.
  virtual Tensor host_memory(const Shape& shape, DType type) = 0;
  // STATE. Starts copies between memory of these two kinds: behind those of the same direction that were started
  // before, behind the copies `after` and behind everything that was issued so far, beside what is issued from now on.
  std::shared_ptr<Copies> start_copies(CopyDirection direction, std::span<const CopyPair> pairs,
                                       std::span<const std::shared_ptr<Copies>> after = {});
  // What is issued from now on waits for them.
  void finish_copies(const Copies& copies);

  // ---- element-wise -------------------------------------------------------------------------------------------
  // a + b, a - b: the same shape, f32 or compute type; the result has the type of `a`.
  Tensor add(const Tensor& a, const Tensor& b);
  Tensor subtract(const Tensor& a, const Tensor& b);
  // x * scale + shift, result in `type`.
  Tensor affine(const Tensor& x, float scale, float shift, DType type);
  // Per channel (innermost dimension): x * scale + shift, scale and shift [channels] f32. Keeps the type of x.
  Tensor channel_affine(const Tensor& x, const Tensor& scale, const Tensor& shift);
  Tensor activation(const Tensor& x, Activation kind);
  // limit * tanh(x / limit): what the tiny decoder does to everything that enters it.
  Tensor soft_clamp(const Tensor& x, float limit);
  Tensor clamp(const Tensor& x, float low, float high);

  // ---- frames -------------------------------------------------------------------------------------------------
  // u8 [T, h, w, 3] -> u8 [T, height, width, 3]: Pillow's Image.BICUBIC (a = -0.5, antialiased when it shrinks), bit
  // for bit: 22-bit fixed-point coefficients, horizontal pass first, each pass rounded and clipped to u8.
  Tensor resize_bicubic(const Tensor& frames, std::int64_t height, std::int64_t width);
  // Repeats the right-most column and the lowest row. Any type.
  Tensor pad_edge(const Tensor& frames, std::int64_t height, std::int64_t width);
  // [T, H, W, C] -> [T, height, width, C] from (top, left). Any type.
  Tensor crop(const Tensor& frames, std::int64_t top, std::int64_t left, std::int64_t height, std::int64_t width);
  // STATE. Adds a weighted part of a frame to the frame: value (y, x) of `tile` [1, h, w, C] f32, times row_weights[y]
  // * column_weights[x] (f32 [h] and [w]), to that at (top + y, left + x) of `frame` [1, H, W, C] f32. The part begins
  // inside the frame; what lies beyond the lowest row and the right-most column is left out. The products and the sum
  // are rounded one by one: the same bits on every back end.
  void add_tile(const Tensor& frame, const Tensor& tile, std::int64_t top, std::int64_t left, const Tensor& row_weights,
                const Tensor& column_weights);
  // Pixels to channels: [T, H, W, 3] -> [T/temporal, H/spatial, W/spatial, 3 * temporal * spatial * spatial] in compute
  // type, channel order (c, frame, row, column). u8 pixels become v/255*2-1; float pixels are taken as they are.
  // soft_clamp > 0 applies soft_clamp to the values.
  Tensor space_to_depth(const Tensor& frames, std::int64_t spatial, std::int64_t temporal, float soft_clamp = 0.0f);
  // Video in [-1, 1] (any float type) to u8: round((x + 1) * 127.5), halves away from zero, clipped.
  Tensor to_bytes(const Tensor& video);
  // u8 frames to f32 v/255*2-1.
  Tensor to_video(const Tensor& frames);
  // Colour fixes, in f32, frame by frame. video f32 [T, H, W, 3] in about [-1, 1], reference u8 [T, H, W, 3] (the
  // upsampled LR): result f32 clipped to [-1, 1].
  // AdaIN: mean and standard deviation (biased, + 1e-5 on the variance) per channel become those of the reference.
  Tensor adain(const Tensor& video, const Tensor& reference);
  // Five levels of a binomial 3x3 low pass, dilation 2^i, edges replicated: high bands of the video + low band of the
  // reference.
  Tensor wavelet(const Tensor& video, const Tensor& reference);

  // ---- images of other libraries ---------------------------------------------------------------------------
  // Both return when they are done with the image, and do not wait for what else the device works on.
  // -> [1, height, width, 3] u8. Chroma is interpolated linearly where its samples lie (core/color_conversion.h, which
  // all back ends follow bit for bit). Throws Error(unsupported) for matrices without luma.
  Tensor read_image(const SemiPlanarImage& image);
  // STATE. Writes rgb [1, height, width, 3] u8, whose arrival has been waited for, into the image. Siting left or
  // center: chroma is the mean of the pixels around a sample. May be called while another thread uses the back end.
  void write_image(const SemiPlanarImage& image, const Tensor& rgb);

  // ---- LR projector and Wan VAE --------------------------------------------------------------------------------
  // Causal convolution over [front; x], both [T, H, W, C] compute type: weight [O, C, kt, kh, kw], stride
  // (time_stride, 1, 1). `front` (may be empty, a default Tensor) holds the frames before x; there is no other padding
  // in time. Result [(Tf + T - kt) / time_stride + 1, H, W, O].
  Tensor conv3d(const Tensor& front, const Tensor& x, const ConvWeights& weights, const Conv3dOptions& options);
  // x / max(||x||, 1e-12) * sqrt(C) * gamma over the channels, then SiLU (or nothing). gamma has C elements.
  Tensor channel_rms_norm(const Tensor& x, const Parameter& gamma, Activation activation);
  // [T, H, W, 2C] -> [2T, H, W, C]: the two halves of the channels become consecutive frames.
  Tensor channels_to_frames(const Tensor& x);

  // ---- DiT ----------------------------------------------------------------------------------------------------
  // x [tokens, in] -> [tokens, out]; see LinearOptions.
  Tensor linear(const Tensor& x, const LinearWeights& weights, const LinearOptions& options = {});
  // Several linears of one input side by side: [tokens, sum of out], compute type.
  Tensor linear_concatenated(const Tensor& x, std::span<const LinearWeights> weights);
  // LayerNorm over dim (eps 1e-6) of x (compute or residual type): compute type. With weight and bias, or modulated:
  // LN(x) * (1 + scale) + shift, scale and shift [dim] f32 (paper: adaLN of Wan).
  Tensor layer_norm(const Tensor& x, const Parameter& weight, const Parameter& bias);
  Tensor layer_norm_modulated(const Tensor& x, const Tensor& scale, const Tensor& shift);
  // RMS norm over dim (eps 1e-6).
  Tensor rms_norm(const Tensor& x, const Parameter& weight);
  // Raster order (latent, row, column) [latents, rows, columns, C] -> window order [tokens, C]: blocks in the order
  // (time window, window row, window column), tokens inside a block (t, h, w).
  Tensor to_windows(const Tensor& x);
  // Latents [f, H/8, W/8, 16] -> [tokens, 64] compute type in window order, channels (c, row, column) of the 2x2 patch:
  // the input order of patch_embedding.
  Tensor patchify(const Tensor& latents);
  // Head output [tokens, 64] in window order, channels (row, column, c) -> [f, H/8, W/8, 16], same type.
  Tensor unpatchify(const Tensor& tokens, const TokenGrid& grid);
  // qkv [tokens, 3 dim] in window order -> RMS norm of q and k over all heads, 3D RoPE in the head dimension (split
  // t, h, w as in the paper's base model; angles in double from the absolute position), block means.
  QueryKeyValue split_qkv(const Tensor& qkv, const Parameter& norm_q, const Parameter& norm_k, const TokenGrid& grid);
  // STATE. The same, with k, v and k_means written to `cache`, as the layer's windows of the current chunk.
  Query append_qkv(KvCache& cache, std::size_t layer, const Tensor& qkv, const Parameter& norm_q,
                   const Parameter& norm_k, const TokenGrid& grid);
  // Products of block means / sqrt(head dim): f32 [heads, query blocks, key blocks]; -inf outside the local window.
  // The query blocks are those of `grid`; key blocks oldest window first.
  Tensor block_scores(const Tensor& q_means, const KeyValueView& keys, const TokenGrid& grid, const Locality& locality);
  // Softmax over the key blocks, then the top-k rule of Selection.
  BlockMask select_blocks(const Tensor& scores, std::int64_t window_blocks, const Selection& selection);
  // The lists of a given mask (host u8 [heads, query blocks, key blocks]).
  BlockMask block_mask(const Tensor& host_mask);
  // Block-sparse attention: a query block sees all tokens of the key blocks that its row keeps; an empty row gives
  // zeros. Touches kept blocks only. -> [tokens, dim] compute type.
  Tensor sparse_attention(const Tensor& q, const KeyValueView& keys, const BlockMask& mask, std::int64_t heads);
  // Dense attention, batched: q [batch, n, dim], k and v [batch, m, dim] (or [1, m, dim]: shared) -> [batch, n, dim].
  Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t heads);

  // ---- tiny conditional decoder, Wan VAE -----------------------------------------------------------------------
  // x [N, H, W, C] -> [N, H', W', O]; see Conv2dOptions.
  Tensor conv2d(const Tensor& x, const ConvWeights& weights, const Conv2dOptions& options = {});
  // Nearest upsampling x2, then convolution 3x3 (zero padding 1), then the activation.
  Tensor upsample_conv2d(const Tensor& x, const ConvWeights& conv, Activation activation = Activation::none);
  // Nearest upsampling x2, a 1x1 convolution without bias (TGrow) whose channels split into frames of C channels, of
  // which the frame-th is taken, then a 3x3 convolution (zero padding 1), then the activation. x [1, H, W, C], grow
  // [frames * C, C, 1, 1]. All of it is linear up to the activation, so back ends merge it exactly. -> [1, 2H, 2W, O].
  Tensor upsample_grow_conv2d(const Tensor& x, const Parameter& grow, const ConvWeights& conv, std::int64_t frame,
                              Activation activation = Activation::none);

  // ---- noise --------------------------------------------------------------------------------------------------
  // Standard Gaussian noise [latents, rows, columns, 16] f32 of a stream's latents from first_latent on, at 1/8 of the
  // output's resolution; the same bits on every back end (core/noise.h).
  Tensor gaussian_noise(std::uint64_t seed, std::int64_t first_latent, std::int64_t latents, std::int64_t rows,
                        std::int64_t columns);

 protected:
  virtual std::size_t do_available_memory() const = 0;
  virtual Tensor do_allocate(const Shape& shape, DType type) = 0;  // contents undefined
  virtual Tensor do_from_host(const Tensor& host, DType type) = 0;
  virtual Tensor do_to_host(const Tensor& x) = 0;
  virtual HostCopy do_start_to_host(const Tensor& x) { return HostCopy(do_to_host(x)); }
  virtual Tensor do_zeros(const Shape& shape, DType type) = 0;
  // `marks` is null if nothing is measured.
  virtual std::shared_ptr<Copies> do_start_copies(CopyDirection direction, std::span<const CopyPair> pairs,
                                                  std::span<const std::shared_ptr<Copies>> after, CopyMarks* marks) = 0;
  virtual void do_finish_copies(const Copies& copies) = 0;
  virtual Tensor do_cast(const Tensor& x, DType type) = 0;
  virtual Tensor do_concatenate(std::span<const Tensor> parts) = 0;
  virtual void do_store(const Tensor& destination, std::int64_t begin, const Tensor& x) = 0;
  virtual Tensor do_add(const Tensor& a, const Tensor& b, float sign) = 0;
  virtual Tensor do_affine(const Tensor& x, float scale, float shift, DType type) = 0;
  virtual Tensor do_channel_affine(const Tensor& x, const Tensor& scale, const Tensor& shift) = 0;
  virtual Tensor do_activation(const Tensor& x, Activation kind) = 0;
  virtual Tensor do_soft_clamp(const Tensor& x, float limit) = 0;
  virtual Tensor do_clamp(const Tensor& x, float low, float high) = 0;
  virtual Tensor do_resize_bicubic(const Tensor& frames, std::int64_t height, std::int64_t width) = 0;
  virtual Tensor do_pad_edge(const Tensor& frames, std::int64_t height, std::int64_t width) = 0;
  virtual Tensor do_crop(const Tensor& frames, std::int64_t top, std::int64_t left, std::int64_t height,
                         std::int64_t width) = 0;
  virtual void do_add_tile(const Tensor& frame, const Tensor& tile, std::int64_t top, std::int64_t left,
                           const Tensor& row_weights, const Tensor& column_weights) = 0;
  virtual Tensor do_space_to_depth(const Tensor& frames, std::int64_t spatial, std::int64_t temporal,
                                   float soft_clamp) = 0;
  virtual Tensor do_to_bytes(const Tensor& video) = 0;
  virtual Tensor do_to_video(const Tensor& frames) = 0;
  virtual Tensor do_read_image(const SemiPlanarImage& image) = 0;
  virtual void do_write_image(const SemiPlanarImage& image, const Tensor& rgb) = 0;
  virtual Tensor do_adain(const Tensor& video, const Tensor& reference) = 0;
  virtual Tensor do_wavelet(const Tensor& video, const Tensor& reference) = 0;
  virtual Tensor do_conv3d(const Tensor& front, const Tensor& x, const ConvWeights& weights,
                           const Conv3dOptions& options) = 0;
  virtual Tensor do_channel_rms_norm(const Tensor& x, const Parameter& gamma, Activation activation) = 0;
  virtual Tensor do_channels_to_frames(const Tensor& x) = 0;
  // options.output is always set here.
  virtual Tensor do_linear(const Tensor& x, const LinearWeights& weights, const LinearOptions& options) = 0;
  virtual Tensor do_linear_concatenated(const Tensor& x, std::span<const LinearWeights> weights) = 0;
  virtual Tensor do_layer_norm(const Tensor& x, const Parameter& weight, const Parameter& bias) = 0;
  virtual Tensor do_layer_norm_modulated(const Tensor& x, const Tensor& scale, const Tensor& shift) = 0;
  virtual Tensor do_rms_norm(const Tensor& x, const Parameter& weight) = 0;
  virtual Tensor do_to_windows(const Tensor& x) = 0;
  virtual Tensor do_patchify(const Tensor& latents) = 0;
  virtual Tensor do_unpatchify(const Tensor& tokens, const TokenGrid& grid) = 0;
  virtual QueryKeyValue do_split_qkv(const Tensor& qkv, const Parameter& norm_q, const Parameter& norm_k,
                                     const TokenGrid& grid) = 0;
  // Default: split_qkv, then store.
  virtual Query do_append_qkv(KvCache& cache, std::size_t layer, const Tensor& qkv, const Parameter& norm_q,
                              const Parameter& norm_k, const TokenGrid& grid);
  virtual Tensor do_block_scores(const Tensor& q_means, const KeyValueView& keys, const TokenGrid& grid,
                                 const Locality& locality) = 0;
  virtual BlockMask do_select_blocks(const Tensor& scores, std::int64_t window_blocks, const Selection& selection) = 0;
  virtual BlockMask do_block_mask(const Tensor& host_mask) = 0;
  virtual Tensor do_sparse_attention(const Tensor& q, const KeyValueView& keys, const BlockMask& mask,
                                     std::int64_t heads) = 0;
  virtual Tensor do_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t heads) = 0;
  // options.output is always set here.
  virtual Tensor do_conv2d(const Tensor& x, const ConvWeights& weights, const Conv2dOptions& options) = 0;
  virtual Tensor do_upsample_conv2d(const Tensor& x, const ConvWeights& conv, Activation activation) = 0;
  virtual Tensor do_upsample_grow_conv2d(const Tensor& x, const Parameter& grow, const ConvWeights& conv,
                                         std::int64_t frame, Activation activation) = 0;
  virtual Tensor do_gaussian_noise(std::uint64_t seed, std::int64_t first_latent, std::int64_t latents,
                                   std::int64_t rows, std::int64_t columns) = 0;

 private:
  void count_kept_blocks(const char* operation, const BlockMask& mask, double flops_per_block);
  void read_kept_blocks();

  struct CountedBlocks {
    Profile::Entry* entry;
    double flops_per_block;
  };

  std::size_t memory_limit_ = kUnboundedMemory;
  Profile profile_;
  // Number of blocks that each of the sparse attentions in counted_ kept: i32, in the back end's memory.
  Tensor kept_blocks_;
  std::vector<CountedBlocks> counted_;
};

}  // namespace flashvsr::ops
