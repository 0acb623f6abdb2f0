// Where a video is decoded and encoded: on the CPU, or by NVDEC and NVENC on the device that the model runs on.
#pragma once

#include "cli/output_size.h"
#include "media/media.h"

#include <memory>
#include <string>
#include <vector>

namespace flashvsr::cli {

struct VideoRequest {
  std::string where = "auto";  // "auto", "cpu", "cuda"
  std::string device;          // of the model: "cpu", "cuda"
  int device_index = 0;        // which of the CUDA devices
  std::string output;
  int threads = 0;
};

struct ChosenVideo {
  std::unique_ptr<media::FrameSource> source;
  std::unique_ptr<media::FrameSink> sink;
  std::vector<std::string> notes;  // why something is not where it was tried
};

// Why NVDEC cannot be used for what `info` describes, with a plan that needs no pixels of the host before the model
// has them; empty if it can be tried.
std::string decoding_problem(const media::VideoInfo& info, const OutputPlan& plan, const std::string& model_device);

// Takes `source` as it is opened on the CPU, opens it anew on the device where that is asked for or possible, and opens
// the sink. With "auto" what does not work on the device is done on the CPU, with a note if it was tried; with "cuda"
// it is an error: Error(unsupported) or Error(device).
ChosenVideo choose_video(std::unique_ptr<media::FrameSource> source, const OutputPlan& plan,
                         const media::SinkSettings& settings, const VideoRequest& request);

}  // namespace flashvsr::cli
