#include "cli/backend_options.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/pipeline.h"
#include "cli/reporter.h"
#include "cli/upscale_options.h"
#include "cli/video_choice.h"
#include "core/error.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <exception>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <utility>

namespace flashvsr::cli {
namespace {

using nlohmann::ordered_json;

// What a progress callback of the stream gets to see.
struct Progress {
  Reporter& reporter;
  CancelFlag cancel{false};

  static int callback(void* self, std::int64_t frames_done) {
    auto* progress = static_cast<Progress*>(self);
    progress->reporter.progress(frames_done);
    return progress->cancel ? 1 : 0;
  }
};

media::SinkSettings sink_settings(const UpscaleOptions& options, const OutputPlan& plan) {
  media::SinkSettings settings;
  settings.width = plan.output.width;
  settings.height = plan.output.height;
  if (plan.square_pixels) settings.sample_aspect = media::Rational{1, 1};
  settings.codec = options.codec;
  settings.crf = options.crf;
  settings.overwrite = options.overwrite;
  settings.threads = options.threads;
  return settings;
}

InputShape shape_of(const media::VideoInfo& info) {
  return {.size = {info.width, info.height},
          .sample_width = std::max<std::int64_t>(info.sample_aspect.numerator, 1),
          .sample_height = std::max<std::int64_t>(info.sample_aspect.denominator, 1)};
}

flashvsr_stream_settings complete(flashvsr_stream_settings settings, const OutputPlan& plan, Progress& progress) {
  settings.input_width = plan.cropped.width;
  settings.input_height = plan.cropped.height;
  settings.output_width = plan.upscaled.width;
  settings.output_height = plan.upscaled.height;
  settings.progress = &Progress::callback;
  settings.progress_user = &progress;
  return settings;
}

const char* place_of(bool on_device) { return on_device ? "cuda" : "cpu"; }

void announce(Reporter& reporter, const media::VideoInfo& info, const media::SinkInfo& output, const OutputPlan& plan,
              const flashvsr_model_info& model, const flashvsr_memory& memory) {
  const ordered_json details{{"input", info.path},
                             {"input_width", info.width},
                             {"input_height", info.height},
                             {"output", output.path},
                             {"output_width", plan.output.width},
                             {"output_height", plan.output.height},
                             {"pixel_format", output.pixel_format},
                             {"encoder", output.encoder},
                             {"decoding", place_of(info.on_device)},
                             {"encoding", place_of(output.on_device)},
                             {"frame_rate", info.frame_rate.value()},
                             {"total", info.frames_estimated ? ordered_json(*info.frames_estimated) : ordered_json()},
                             {"model", model.name},
                             {"variant", model.variant},
                             {"device", model.device},
                             {"precision", model.precision},
                             {"memory_bytes", memory.needed},
                             {"memory_available_bytes", memory.available},
                             {"memory_spilled_bytes", memory.spilled},
                             {"decoder_slice_bytes", memory.decoder_slice},
                             {"tiles", fmt::format("{}x{}", memory.tile_columns, memory.tile_rows)}};
  const std::string text = fmt::format(
      "{} {}x{} -> {} {}x{}, model {} ({}) on {} in {}, with {:.1f} of {:.1f} GB of memory, decoding on {}, encoding "
      "on {}",
      info.path, info.width, info.height, output.path, plan.output.width, plan.output.height, model.name, model.variant,
      model.device, model.precision, static_cast<double>(memory.needed) / 1e9,
      static_cast<double>(memory.available) / 1e9, place_of(info.on_device), place_of(output.on_device));
  reporter.start(details, text, info.frames_estimated);
  if (memory.spilled > 0) {
    reporter.note(
        fmt::format("there is not enough memory on the device: {:.1f} GB of the KV cache lie in the host's "
                    "memory, which is slower",
                    static_cast<double>(memory.spilled) / 1e9));
  }
}

void conclude(Reporter& reporter, const PipelineResult& result, const std::string& path) {
  const double rate = static_cast<double>(result.frames) / std::max(result.seconds, 1e-9);
  const ordered_json details{{"frames", result.frames},
                             {"seconds", result.seconds},
                             {"fps", rate},
                             {"first_frame_seconds", result.first_frame_seconds},
                             {"output", path}};
  reporter.done(details, fmt::format("{} frame{} in {:.1f} s, {:.2f} FPS: {}", result.frames,
                                     result.frames == 1 ? "" : "s", result.seconds, rate, path));
}

void upscale(const UpscaleOptions& options, Reporter& reporter) {
  auto opened = media::open_source(options.input, {.threads = options.threads});
  const api::Model model(options.model.empty() ? "nano" : options.model, model_settings(options));
  const flashvsr_model_info model_info = model.info();

  const OutputPlan plan = plan_output(shape_of(opened->info()), size_request(options, model_info.scale));
  const VideoRequest request{.where = options.video,
                             .device = model_info.device,
                             .device_index = parse_device(options.device)->index,
                             .output = options.output,
                             .threads = options.threads};
  const ChosenVideo video = choose_video(std::move(opened), plan, sink_settings(options, plan), request);
  const auto& [source, sink, choice_notes] = video;
  const media::VideoInfo& info = source->info();
  Progress progress{reporter};
  flashvsr_stream_settings settings = complete(stream_settings(options), plan, progress);
  settings.image_input = info.on_device ? 1 : 0;
  settings.image_output = sink->info().on_device ? 1 : 0;
  api::Stream stream(model, settings);

  const auto note = [&reporter](const std::string& text) { reporter.note(text); };
  for (const std::string& text : choice_notes) note(text);
  for (const std::string& text : source->take_notes()) note(text);
  for (const std::string& text : sink->take_notes()) note(text);
  const std::string path = sink->info().path;
  announce(reporter, info, sink->info(), plan, model_info, stream.memory());
  conclude(reporter, run_pipeline(*source, *sink, stream, plan, progress.cancel, note), path);
}

void forward_log(void* reporter, flashvsr_log_level level, const char* message) {
  if (level >= FLASHVSR_LOG_WARNING) static_cast<Reporter*>(reporter)->note(message);
}

int run(const UpscaleOptions& options) {
  const auto style = options.json    ? Reporter::Style::json
                     : options.quiet ? Reporter::Style::quiet
                                     : Reporter::Style::text;
  Reporter reporter(style, options.output == "-" ? stderr : stdout);
  // A reader that goes away is an error of the write, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  const InterruptGuard guard([&reporter] {
    media::remove_unfinished_outputs();
    reporter.error("interrupted; nothing was kept");
  });
  flashvsr_set_log_callback(&forward_log, &reporter);
  int status = kSuccess;
  try {
    upscale(options, reporter);
  } catch (const std::bad_alloc&) {
    reporter.error("not enough memory; a smaller output needs less");
    status = kFailure;
  } catch (const std::exception& error) {
    reporter.error(error.what());
    status = kFailure;
  }
  flashvsr_set_log_callback(nullptr, nullptr);
  return status;
}

}  // namespace

Command add_upscale_command(CLI::App& program) {
  auto options = std::make_shared<UpscaleOptions>();
  CLI::App* command = program.add_subcommand("upscale", "Upscale a video, an image or a folder of images");
  add_upscale_options(*command, *options);
  return {command, [options] { return run(*options); }};
}

}  // namespace flashvsr::cli
