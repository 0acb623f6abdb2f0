// Pixels of a golden set: its LR clip upscaled, and what it keeps of the frames that come out.
#pragma once

#include "cli/golden_set.h"
#include "core/tensor.h"
#include "ops/operations.h"

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace flashvsr::cli {

// LR frames by Pillow's bicubic times the set's scale, then the centre crop to its height and width.
class UpscaledClip {
 public:
  UpscaledClip(ops::Operations& operations, const GoldenSet& set);
  // [end - begin, H, W, 3] u8
  Tensor frames(std::int64_t begin, std::int64_t end) const;
  // The four frames that belong to a latent: 4j-3..4j, frame 0 four times for latent 0.
  Tensor condition(std::int64_t latent) const;
  // [H, W, 3] u8, host
  Tensor host_frame(std::int64_t index) const;

 private:
  ops::Operations& ops_;
  Tensor lr_frames_;
  std::int64_t scaled_height_, scaled_width_, height_, width_;
};

// Takes the decoder's frames one by one, applies the colour fixes, keeps crops of a few frames and the mean and
// standard deviation of all.
class FrameCollector {
 public:
  FrameCollector(ops::Operations& operations, const GoldenSet& set);
  // frame [1, H, W, 3] f32; the first three of a stream are dropped.
  void add(const UpscaledClip& clip, const Tensor& frame);
  // decoded_frames, adain_frames, wavelet_frames [3, kept, h, w] and their .mean_std [2, T].
  void finish(std::map<std::string, Tensor>& outputs) const;

 private:
  struct Track {
    std::vector<std::vector<float>> kept;  // by position in frame_index, [3, h, w]
    std::vector<float> mean, deviation;
  };
  void keep(Track& track, const Tensor& frame) const;

  ops::Operations& ops_;
  std::array<std::int64_t, 4> crop_{};  // top, left, height, width
  std::vector<std::int64_t> frame_index_;
  std::int64_t next_;
  Track decoded_, adain_, wavelet_;
};

}  // namespace flashvsr::cli
