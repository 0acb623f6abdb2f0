#include "cli/upscale_options.h"

#include "cli/backend_options.h"

#include <charconv>
#include <map>
#include <system_error>

namespace flashvsr::cli {
namespace {

// nullopt unless all of `text` is a number above 0.
std::optional<double> positive_number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value > 0) || value > 1e6) return std::nullopt;
  return value;
}

std::string check_sparse_ratio(const std::string& text) {
  return text == "all" || positive_number(text) ? "" : "must be a number above 0, or all";
}

std::string check_size(const std::string& text) {
  return parse_size(text) ? "" : "must be WIDTHxHEIGHT in pixels, 1 to 65535 each";
}

std::string check_scale(const std::string& text) {
  const auto value = positive_number(text);
  return value && *value <= 64 ? "" : "must be a number above 0, at most 64";
}

std::string check_crf(const std::string& text) {
  const bool zero = text == "0";
  const auto value = positive_number(text);
  return zero || (value && *value <= 100) ? "" : "must be a number from 0 to 100";
}

}  // namespace

void add_upscale_options(CLI::App& command, UpscaleOptions& options) {
  command.add_option("input", options.input, "Video, image, folder of images, or - for YUV4MPEG2 on standard input")
      ->required();
  command.add_option("-o,--output", options.output, "Video, image, folder/ for PNG frames, or - for standard output")
      ->required();

  auto* scale = command.add_option("--scale", options.scale, "Output size = floor(input size x SCALE + 1/2)");
  scale->check(CLI::Validator(check_scale, "NUMBER", "scale"))->default_str("the model's, 4");
  auto* size = command.add_option("--size", options.size, "Output size, WIDTHxHEIGHT in pixels");
  size->check(CLI::Validator(check_size, "WxH", "size"))->excludes(scale);
  command.add_option("--fit", options.fit, "With --size of another aspect: distort, black bars, or cut the input")
      ->check(CLI::IsMember({"stretch", "pad", "crop"}))
      ->needs(size);

  command.add_option("--model", options.model, "Name of an installed model, packed file, or folder of published files")
      ->default_str("the built-in one");
  command.add_option("--variant", options.variant, "Which published model a folder holds; packed files say it")
      ->check(CLI::IsMember({"v1", "v1.1"}));
  add_device_option(command, options.device, {"auto", "cpu", "cuda"}, "Where to compute");
  command.add_option("--precision", options.precision, "auto: bf16 where the device multiplies it natively")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}))
      ->capture_default_str();
  command.add_option("--decoder", options.decoder, "full: the Wan VAE, slower")
      ->check(CLI::IsMember({"tiny", "full"}))
      ->capture_default_str();
  command.add_option("--color-fix", options.color_fix, "auto: what the model recommends")
      ->check(CLI::IsMember({"auto", "adain", "wavelet", "none"}))
      ->capture_default_str();

  command
      .add_option("--sparse-ratio", options.sparse_ratio,
                  "Attention blocks that are kept: 2.0 stable, 1.5 faster, all: every one in the local window")
      ->check(CLI::Validator(check_sparse_ratio, "X|all", "sparse ratio"))
      ->default_str("the model's");
  command
      .add_option("--local-range", options.local_range, "Local window in blocks of 128 pixels: 11, or 9 for sharper")
      ->check(CLI::Range(1, 65536))
      ->default_str("the model's");
  command.add_option("--local-window", options.local_window, "At borders: cut the local window, or keep its size")
      ->check(CLI::IsMember({"truncated", "preserved"}))
      ->default_str("the model's");
  command.add_option("--kv-chunks", options.kv_chunks, "Chunks of 8 frames that attention remembers")
      ->check(CLI::Range(1, 1024))
      ->default_str("the model's");
  command.add_option("--seed", options.seed, "Of the noise")->check(CLI::NonNegativeNumber)->capture_default_str();
  command.add_option("--threads", options.threads, "Threads; 0: one for every core")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  add_memory_limit_option(command, options.memory_limit);
  add_tiles_option(command, options.tiles);

  command
      .add_option(
          "--video", options.video,
          "Where video is decoded and encoded. auto: by NVDEC if the model runs on CUDA and the video suits, by "
          "NVENC if --codec names it (hevc_nvenc); cuda: by both, or fail")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command.add_option("--codec", options.codec, "h264, hevc, av1, vp9, ffv1, prores, or a name of FFmpeg's")
      ->default_str("h264, vp9 in WebM");
  command.add_option("--crf", options.crf, "Constant quality in the encoder's scale, lower is better")
      ->check(CLI::Validator(check_crf, "NUMBER", "crf"));
  command.add_flag("--overwrite", options.overwrite, "Replace the output if it exists");
  auto* quiet = command.add_flag("--quiet", options.quiet, "Say nothing but errors");
  command.add_flag("--json", options.json, "Progress as JSON lines on standard output (standard error with -o -)")
      ->excludes(quiet);
}

flashvsr_model_settings model_settings(const UpscaleOptions& options) {
  flashvsr_model_settings settings = flashvsr_default_model_settings();
  settings.threads = options.threads;
  settings.memory_limit = memory_limit_bytes(options.memory_limit);
  const std::map<std::string, flashvsr_device> devices{
      {"auto", FLASHVSR_DEVICE_AUTO}, {"cpu", FLASHVSR_DEVICE_CPU}, {"cuda", FLASHVSR_DEVICE_CUDA}};
  const std::map<std::string, flashvsr_precision> precisions{
      {"auto", FLASHVSR_PRECISION_AUTO}, {"f32", FLASHVSR_PRECISION_F32}, {"bf16", FLASHVSR_PRECISION_BF16}};
  const DeviceChoice device = *parse_device(options.device);
  settings.device = devices.at(device.name);
  settings.device_index = device.index;
  settings.precision = precisions.at(options.precision);
  if (options.variant == "v1") settings.variant = FLASHVSR_VARIANT_V1;
  if (options.variant == "v1.1") settings.variant = FLASHVSR_VARIANT_V1_1;
  return settings;
}

flashvsr_stream_settings stream_settings(const UpscaleOptions& options) {
  flashvsr_stream_settings settings = flashvsr_default_stream_settings();
  if (options.decoder == "full") settings.decoder = FLASHVSR_DECODER_FULL;
  const std::map<std::string, flashvsr_color_fix> color_fixes{{"auto", FLASHVSR_COLOR_FIX_AUTO},
                                                              {"adain", FLASHVSR_COLOR_FIX_ADAIN},
                                                              {"wavelet", FLASHVSR_COLOR_FIX_WAVELET},
                                                              {"none", FLASHVSR_COLOR_FIX_NONE}};
  settings.color_fix = color_fixes.at(options.color_fix);
  if (options.sparse_ratio == "all") {
    settings.sparse_ratio = -1;
  } else if (!options.sparse_ratio.empty()) {
    settings.sparse_ratio = *positive_number(options.sparse_ratio);
  }
  settings.local_range = options.local_range;
  if (options.local_window == "truncated") settings.local_window = FLASHVSR_LOCAL_WINDOW_TRUNCATED;
  if (options.local_window == "preserved") settings.local_window = FLASHVSR_LOCAL_WINDOW_PRESERVED;
  settings.kv_chunks = options.kv_chunks;
  settings.seed = options.seed;
  if (const auto tiles = tiles_of(options.tiles)) {
    settings.tile_columns = tiles->width;
    settings.tile_rows = tiles->height;
  }
  return settings;
}

SizeRequest size_request(const UpscaleOptions& options, double model_scale) {
  const std::map<std::string, Fit> fits{
      {"", Fit::none}, {"stretch", Fit::stretch}, {"pad", Fit::pad}, {"crop", Fit::crop}};
  SizeRequest request{.size = std::nullopt, .scale = options.scale.value_or(model_scale), .fit = fits.at(options.fit)};
  if (!options.size.empty()) request.size = parse_size(options.size);
  return request;
}

}  // namespace flashvsr::cli
