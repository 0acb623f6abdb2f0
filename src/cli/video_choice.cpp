#include "cli/video_choice.h"

#include "core/error.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

namespace flashvsr::cli {
namespace {

constexpr std::array<std::string_view, 3> kPixelFormats{"yuv420p", "yuvj420p", "yuv420p10le"};

void open_source_on_device(ChosenVideo& video, const OutputPlan& plan, const VideoRequest& request) {
  const media::VideoInfo& info = video.source->info();
  const bool insists = request.where == "cuda";
  if (const std::string problem = decoding_problem(info, plan, request.device); !problem.empty()) {
    if (insists) fail(ErrorCode::unsupported, "{}: cannot be decoded by NVDEC: {}", info.path, problem);
    return;
  }
  try {
    auto source =
        media::open_source(info.path, {.threads = request.threads, .cuda = true, .cuda_device = request.device_index});
    require(source->info().width == info.width && source->info().height == info.height, "{}: NVDEC gives another size",
            info.path);
    video.source = std::move(source);
  } catch (const Error& error) {
    if (insists) throw;
    video.notes.push_back(fmt::format("{}; the video is decoded on the CPU.", error.what()));
  }
}

void open_sink_on_device(ChosenVideo& video, const OutputPlan& plan, const media::SinkSettings& settings,
                         const VideoRequest& request) {
  const media::VideoInfo& info = video.source->info();
  const bool insists = request.where == "cuda";
  media::SinkSettings on_device = settings;
  on_device.codec = media::nvenc_encoder(request.output, info, settings.codec);
  on_device.cuda = true;
  on_device.cuda_device = request.device_index;
  if (on_device.codec.empty() || (!insists && on_device.codec != settings.codec)) return;
  std::string problem;
  if (request.device != "cuda") problem = fmt::format("the model runs on the {}", request.device);
  if (plan.pads()) problem = "black bars are added on the CPU";
  if (!problem.empty()) {
    if (insists) fail(ErrorCode::unsupported, "{}: cannot be encoded by NVENC: {}", request.output, problem);
    return;
  }
  try {
    video.sink = media::open_sink(request.output, info, on_device);
  } catch (const Error& error) {
    // What is wrong with the output itself is wrong on the CPU too.
    if (insists || (error.code() != ErrorCode::unsupported && error.code() != ErrorCode::device)) throw;
    video.notes.push_back(fmt::format("{}; frames go to the encoder through the host's memory.", error.what()));
  }
}

}  // namespace

std::string decoding_problem(const media::VideoInfo& info, const OutputPlan& plan, const std::string& model_device) {
  if (model_device != "cuda") return fmt::format("the model runs on the {}", model_device);
  if (info.kind != media::SourceKind::video) return "it is no video file";
  std::error_code error;
  if (!std::filesystem::is_regular_file(info.path, error)) return "it is a pipe, which is read once only";
  if (std::ranges::find(kPixelFormats, info.pixel_format) == kPixelFormats.end()) {
    return fmt::format("its pixel format is {} instead of 4:2:0 with 8 or 10 bits", info.pixel_format);
  }
  if (info.rotation != 0 || info.mirrored) return "its pictures are turned, which is done on the CPU";
  if (!(plan.cropped == Size{info.width, info.height})) return "--fit crop is done on the CPU";
  return {};
}

ChosenVideo choose_video(std::unique_ptr<media::FrameSource> source, const OutputPlan& plan,
                         const media::SinkSettings& settings, const VideoRequest& request) {
  ChosenVideo video{.source = std::move(source), .sink = nullptr, .notes = {}};
  if (request.where != "cpu") {
    open_source_on_device(video, plan, request);
    open_sink_on_device(video, plan, settings, request);
  }
  if (!video.sink) video.sink = media::open_sink(request.output, video.source->info(), settings);
  return video;
}

}  // namespace flashvsr::cli
