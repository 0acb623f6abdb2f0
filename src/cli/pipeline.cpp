#include "cli/pipeline.h"

#include "cli/bounded_queue.h"
#include "core/error.h"

#include <chrono>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

namespace flashvsr::cli {
namespace {

// A chunk gives 8 frames: with room for as many, encoding never holds up the next chunk unless it is slower.
constexpr std::size_t kQueuedFrames = 8;
// One more waits to be queued, one is being sent.
constexpr std::size_t kQueuedPictures = media::kDevicePicturesHeld - 2;

using Clock = std::chrono::steady_clock;

flashvsr_image image_of(const media::DevicePicture& picture) {
  flashvsr_image image = flashvsr_default_image();
  image.format = picture.bit_depth > 8 ? FLASHVSR_IMAGE_P010 : FLASHVSR_IMAGE_NV12;
  image.luma = picture.luma;
  image.chroma = picture.chroma;
  image.luma_stride = picture.luma_stride;
  image.chroma_stride = picture.chroma_stride;
  image.matrix = static_cast<int>(picture.matrix);
  image.full_range = picture.range == media::ColorRange::full ? 1 : 0;
  switch (picture.siting) {
    case ChromaSiting::left: image.siting = FLASHVSR_CHROMA_LEFT; break;
    case ChromaSiting::center: image.siting = FLASHVSR_CHROMA_CENTER; break;
    case ChromaSiting::top_left: image.siting = FLASHVSR_CHROMA_TOP_LEFT; break;
  }
  return image;
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class Pipeline {
 public:
  Pipeline(media::FrameSource& source, media::FrameSink& sink, api::Stream& stream, const OutputPlan& plan,
           CancelFlag& cancel, const std::function<void(const std::string&)>& note)
      : source_(source),
        sink_(sink),
        stream_(stream),
        plan_(plan),
        cancel_(cancel),
        note_(note),
        decoded_(source.info().on_device ? kQueuedPictures : kQueuedFrames) {}

  PipelineResult run() {
    start_ = Clock::now();
    std::thread decoding([this] { guarded([this] { decode(); }); });
    std::thread encoding([this] { guarded([this] { encode(); }); });
    guarded([this] { infer(); });
    decoding.join();
    encoding.join();
    if (error_) std::rethrow_exception(error_);
    require(timings_.empty() && result_.frames > 0, "{} frames were lost in the stream", timings_.size());
    sink_.finish();
    pass_on(sink_.take_notes());
    result_.seconds = seconds_since(start_);
    return result_;
  }

 private:
  struct Timing {
    std::int64_t pts = 0, duration = 0;
  };

  template <typename Body>
  void guarded(const Body& body) {
    try {
      body();
    } catch (...) {
      {
        const std::scoped_lock lock(error_mutex_);
        if (!error_) error_ = std::current_exception();
      }
      cancel_ = true;
      source_.interrupt();
      decoded_.abort();
      upscaled_.abort();
    }
  }

  void pass_on(const std::vector<std::string>& notes) const {
    for (const std::string& text : notes) note_(text);
  }

  void decode() {
    const media::VideoInfo& info = source_.info();
    for (;;) {
      media::Frame frame;
      const bool more = source_.read(frame);
      pass_on(source_.take_notes());
      if (!more) break;
      if (frame.width != info.width || frame.height != info.height) {
        fail(ErrorCode::unsupported, "{}: the frame size changes from {}x{} to {}x{}", info.path, info.width,
             info.height, frame.width, frame.height);
      }
      if (!decoded_.push(std::move(frame))) return;
    }
    decoded_.close();
  }

  void infer() {
    while (auto frame = decoded_.pop()) {
      timings_.push_back({frame->pts, frame->duration});
      while (send(*frame) == FLASHVSR_AGAIN) {
        if (!receive_all()) return;
      }
      frame.reset();  // a decoder may wait for its picture
      if (!receive_all()) return;
    }
    if (cancel_) return;
    stream_.drain();
    if (!receive_all()) return;
    upscaled_.close();
  }

  flashvsr_status send(const media::Frame& frame) {
    if (frame.device) return stream_.send(image_of(frame.device));
    const std::ptrdiff_t stride = std::ptrdiff_t{3} * frame.width;
    return stream_.send(frame.rgb.data() + plan_.crop_top * stride + std::ptrdiff_t{3} * plan_.crop_left, stride);
  }

  // Into the spare frame.
  flashvsr_status receive() {
    spare_.width = plan_.output.width;
    spare_.height = plan_.output.height;
    if (sink_.info().on_device) {
      if (!spare_.device) spare_.device = sink_.device_picture();
      return stream_.receive(image_of(spare_.device));
    }
    const std::ptrdiff_t stride = std::ptrdiff_t{3} * plan_.output.width;
    if (spare_.rgb.empty()) spare_.rgb.resize(static_cast<std::size_t>(stride * spare_.height));
    return stream_.receive(spare_.rgb.data() + plan_.pad_top * stride + std::ptrdiff_t{3} * plan_.pad_left, stride);
  }

  // Passes on what is ready. false: the encoder has failed.
  bool receive_all() {
    for (;;) {
      if (receive() != FLASHVSR_OK) return true;
      require(!timings_.empty(), "the stream gave more frames than it took");
      spare_.pts = timings_.front().pts;
      spare_.duration = timings_.front().duration;
      timings_.pop_front();
      if (result_.frames++ == 0) result_.first_frame_seconds = seconds_since(start_);
      if (!upscaled_.push(std::exchange(spare_, {}))) return false;
    }
  }

  void encode() {
    while (auto frame = upscaled_.pop()) {
      sink_.write(*frame);
      pass_on(sink_.take_notes());
    }
  }

  media::FrameSource& source_;
  media::FrameSink& sink_;
  api::Stream& stream_;
  const OutputPlan& plan_;
  CancelFlag& cancel_;
  const std::function<void(const std::string&)>& note_;

  BoundedQueue<media::Frame> decoded_, upscaled_{kQueuedFrames};
  std::deque<Timing> timings_;  // of frames inside the stream
  media::Frame spare_;          // black, waits for the next frame
  std::mutex error_mutex_;
  std::exception_ptr error_;
  Clock::time_point start_;
  PipelineResult result_;
};

}  // namespace

PipelineResult run_pipeline(media::FrameSource& source, media::FrameSink& sink, api::Stream& stream,
                            const OutputPlan& plan, CancelFlag& cancel,
                            const std::function<void(const std::string&)>& note) {
  return Pipeline(source, sink, stream, plan, cancel, note).run();
}

}  // namespace flashvsr::cli
