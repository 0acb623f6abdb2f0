#include "cli/golden_frames.h"

#include "cli/host_layout.h"
#include "core/error.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace flashvsr::cli {
namespace {

constexpr std::int64_t kDroppedFrames = 3;

std::vector<std::int64_t> integers(const GoldenSet& set, const char* name) {
  const Tensor& stored = set.at(name);
  if (stored.dtype() != DType::i64 || stored.shape().rank() != 1) {
    fail(ErrorCode::format, "{}: {} must be I64 with one dimension", set.directory.string(), name);
  }
  return {stored.data<std::int64_t>(), stored.data<std::int64_t>() + stored.elements()};
}

}  // namespace

UpscaledClip::UpscaledClip(ops::Operations& operations, const GoldenSet& set)
    : ops_(operations),
      lr_frames_(set.at("lr_frames")),
      scaled_height_(lr_frames_.dim(1) * set.config.scale),
      scaled_width_(lr_frames_.dim(2) * set.config.scale),
      height_(set.config.height),
      width_(set.config.width) {
  if (scaled_height_ < height_ || scaled_width_ < width_) {
    fail(ErrorCode::format, "{}: LR frames of {}x{} times {} are smaller than the {}x{} of config.json",
         set.directory.string(), lr_frames_.dim(2), lr_frames_.dim(1), set.config.scale, width_, height_);
  }
}

Tensor UpscaledClip::frames(std::int64_t begin, std::int64_t end) const {
  const Tensor upscaled =
      ops_.resize_bicubic(ops_.from_host(lr_frames_.sliced(begin, end)), scaled_height_, scaled_width_);
  return ops_.crop(upscaled, (scaled_height_ - height_) / 2, (scaled_width_ - width_) / 2, height_, width_);
}

Tensor UpscaledClip::condition(std::int64_t latent) const {
  if (latent > 0) return frames(4 * latent - 3, 4 * latent + 1);
  const Tensor first = frames(0, 1);
  const std::array<Tensor, 4> repeated{first, first, first, first};
  return ops_.concatenate(repeated);
}

Tensor UpscaledClip::host_frame(std::int64_t index) const {
  return ops_.to_host(frames(index, index + 1)).reshaped({height_, width_, 3});
}

FrameCollector::FrameCollector(ops::Operations& operations, const GoldenSet& set)
    : ops_(operations), frame_index_(integers(set, "frame_index")), next_(-kDroppedFrames) {
  const std::vector<std::int64_t> crop = integers(set, "crop_yxhw");
  const GoldenConfig& config = set.config;
  const bool inside = crop.size() == 4 && crop[0] >= 0 && crop[1] >= 0 && crop[2] > 0 && crop[3] > 0 &&
                      crop[2] <= config.height && crop[3] <= config.width && crop[0] <= config.height - crop[2] &&
                      crop[1] <= config.width - crop[3];
  if (!inside) {
    fail(ErrorCode::format, "{}: crop_yxhw {} lies outside of {}x{}", set.directory.string(), crop, config.width,
         config.height);
  }
  std::copy(crop.begin(), crop.end(), crop_.begin());
  const std::int64_t frames_out = set.schedule_frames() - 4;
  for (const std::int64_t index : frame_index_) {
    if (index < 0 || index >= frames_out) {
      fail(ErrorCode::format, "{}: frame_index {} lies outside of {} frames", set.directory.string(), index,
           frames_out);
    }
  }
  for (Track* track : {&decoded_, &adain_, &wavelet_}) track->kept.resize(frame_index_.size());
}

void FrameCollector::add(const UpscaledClip& clip, const Tensor& frame) {
  if (next_ >= 0) {
    const Tensor reference = clip.frames(next_, next_ + 1);
    keep(decoded_, frame);
    keep(adain_, ops_.adain(frame, reference));
    keep(wavelet_, ops_.wavelet(frame, reference));
  }
  ++next_;
}

void FrameCollector::keep(Track& track, const Tensor& frame) const {
  const Tensor planes = permuted(fetch_f32(ops_, frame), {0, 3, 1, 2});
  const float* values = planes.data<float>();
  const auto count = static_cast<double>(planes.elements());
  double sum = 0, squares = 0;
  for (std::int64_t i = 0; i < planes.elements(); ++i) sum += static_cast<double>(values[i]);
  const double mean = sum / count;
  for (std::int64_t i = 0; i < planes.elements(); ++i) {
    const double difference = static_cast<double>(values[i]) - mean;
    squares += difference * difference;
  }
  track.mean.push_back(static_cast<float>(mean));
  track.deviation.push_back(static_cast<float>(std::sqrt(squares / count)));

  const auto [top, left, height, width] = crop_;
  for (std::size_t position = 0; position < frame_index_.size(); ++position) {
    if (frame_index_[position] != next_) continue;
    std::vector<float>& kept = track.kept[position];
    for (std::int64_t row = 0; row < 3 * height; ++row) {
      const std::int64_t plane = row / height, y = top + row % height;
      const float* begin = values + (plane * planes.dim(2) + y) * planes.dim(3) + left;
      kept.insert(kept.end(), begin, begin + width);
    }
  }
}

void FrameCollector::finish(std::map<std::string, Tensor>& outputs) const {
  const auto positions = static_cast<std::int64_t>(frame_index_.size());
  const auto [top, left, height, width] = crop_;
  for (const auto& [name, track] : {std::pair<const char*, const Track&>{"decoded_frames", decoded_},
                                    {"adain_frames", adain_},
                                    {"wavelet_frames", wavelet_}}) {
    Tensor frames = allocate_host({positions, 3, height, width}, DType::f32);
    float* destination = frames.mutable_data<float>();
    for (const std::vector<float>& kept : track.kept) destination = std::copy(kept.begin(), kept.end(), destination);
    outputs[name] = permuted(frames, {1, 0, 2, 3});

    Tensor statistics = allocate_host({2, static_cast<std::int64_t>(track.mean.size())}, DType::f32);
    destination = std::copy(track.mean.begin(), track.mean.end(), statistics.mutable_data<float>());
    std::copy(track.deviation.begin(), track.deviation.end(), destination);
    outputs[std::string(name) + ".mean_std"] = statistics;
  }
}

}  // namespace flashvsr::cli
