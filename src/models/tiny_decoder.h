// The tiny conditional decoder: latents and the LR frames they belong to, to pixels (paper section 3.5).
#pragma once

#include "ops/operations.h"
#include "weights/model_files.h"

#include <array>
#include <cstddef>
#include <functional>
#include <vector>

namespace flashvsr::models {

// The frame before, at the input of each MemBlock; empty before the first.
struct TinyDecoderState {
  std::array<Tensor, 9> memory;
};

// Some of the 4 frames of a latent: [begin, end).
struct DecodedFrames {
  std::int64_t begin = 0, end = 4;
};

class TinyDecoder {
 public:
  // Takes a frame [1, H, W, 3] f32, in about [-1, 1].
  using TakeFrame = std::function<void(Tensor frame)>;

  // What the last stage may take for its features at the output's resolution: larger frames are computed in slices of
  // rows.
  static constexpr std::size_t kSliceBytes = std::size_t{1} << 30;

  TinyDecoder(ops::Operations& operations, const weights::ModelFiles& files, std::size_t slice_bytes = kSliceBytes);
  // The same decoder, which shares all weights, with other slices.
  TinyDecoder(const TinyDecoder& other, std::size_t slice_bytes);

  std::size_t slice_bytes() const { return slice_bytes_; }

  // condition u8 [4, H, W, 3]: upsampled LR frames 4j-3..4j of latent j (frame 0 four times for latent 0); latent
  // [1, H/8, W/8, 16] -> 4 frames, of which `take` gets those that `wanted` asks for by their number, 0 to 3; the first
  // three of a stream are to be dropped. Each is computed when those before it have been taken, so that the features of
  // one frame live at a time in each stage.
  void push(TinyDecoderState& state, const Tensor& condition, const Tensor& latent, const TakeFrame& take,
            const DecodedFrames& wanted = {}) const;
  std::vector<Tensor> push(TinyDecoderState& state, const Tensor& condition, const Tensor& latent) const;

 private:
  struct MemBlock {
    std::array<ops::ConvWeights, 3> conv;
  };
  struct Stage {
    std::array<MemBlock, 3> mem_blocks;
    Parameter grow;
    ops::ConvWeights conv;
    std::int64_t frames = 1;       // that one frame grows into
    std::int64_t last_frames = 1;  // of the decoder's that one frame grows into behind all stages
  };

  Tensor mem_block(const MemBlock& block, Tensor& memory, const Tensor& x) const;
  void run_stage(TinyDecoderState& state, std::size_t number, Tensor x, std::int64_t first_frame, const TakeFrame& take,
                 const DecodedFrames& wanted) const;
  Tensor to_video(const Tensor& x, std::int64_t frame) const;
  Tensor slice_to_video(const Tensor& x, std::int64_t frame, std::int64_t begin, std::int64_t end) const;

  ops::Operations& ops_;
  std::size_t slice_bytes_;
  ops::ConvWeights conv_in_, conv_in2_, conv_out1_, conv_out_;
  std::array<Stage, 3> stages_;
};

}  // namespace flashvsr::models
