// Decoding, inference and encoding at the same time, on three threads with bounded queues between them.
#pragma once

#include "cli/output_size.h"
#include "flashvsr/flashvsr.hpp"
#include "media/media.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

namespace flashvsr::cli {

struct PipelineResult {
  std::int64_t frames = 0;
  double seconds = 0;              // from the first frame read to the finished file
  double first_frame_seconds = 0;  // until the first frame had come out of the model
};

// Set when a thread has failed: progress callbacks of the stream should then cancel it.
using CancelFlag = std::atomic<bool>;

// Sends every frame of `source` through `stream`, which takes plan.cropped and gives plan.upscaled, to `sink`, and
// finishes it. A source or sink on the device goes with a stream of image_input or image_output, and with a plan that
// does not crop or pad on its side. `note` is called from any of the threads. The first error of any thread is thrown
// when all have stopped; the sink is unfinished then.
PipelineResult run_pipeline(media::FrameSource& source, media::FrameSink& sink, api::Stream& stream,
                            const OutputPlan& plan, CancelFlag& cancel,
                            const std::function<void(const std::string&)>& note);

}  // namespace flashvsr::cli
