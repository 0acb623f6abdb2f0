#include "stream/api_settings.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

namespace flashvsr::stream::c_api {
namespace {

constexpr int kMostPromptTokens = 65536;

// The number behind an enumeration that C code has set: it may be none of the enumerators, which C++ must not load.
template <typename Enumeration>
int raw(const Enumeration& value) {
  static_assert(sizeof(Enumeration) == sizeof(int));
  int number = 0;
  std::memcpy(&number, &value, sizeof number);
  return number;
}

ops::Device to_device(int device) {
  switch (device) {
    case FLASHVSR_DEVICE_AUTO: return ops::Device::automatic;
    case FLASHVSR_DEVICE_CPU: return ops::Device::cpu;
    case FLASHVSR_DEVICE_CUDA: return ops::Device::cuda;
  }
  fail(ErrorCode::invalid_argument, "device is {}: it is no flashvsr_device", device);
}

ops::Precision to_precision(int precision) {
  switch (precision) {
    case FLASHVSR_PRECISION_AUTO: return ops::Precision::automatic;
    case FLASHVSR_PRECISION_F32: return ops::Precision::f32;
    case FLASHVSR_PRECISION_BF16: return ops::Precision::bf16;
  }
  fail(ErrorCode::invalid_argument, "precision is {}: it is no flashvsr_precision", precision);
}

std::int64_t scaled(int size, double scale) {
  const double result = std::floor(size * scale + 0.5);
  if (!(result >= 1 && result <= std::numeric_limits<int>::max())) {
    fail(ErrorCode::invalid_argument, "a scale of {} makes {} pixels of {}: the output must have at least one", scale,
         result, size);
  }
  return static_cast<std::int64_t>(result);
}

void resolve_size(const flashvsr_stream_settings& from, StreamSettings& to) {
  if (from.input_width <= 0 || from.input_height <= 0) {
    fail(ErrorCode::invalid_argument, "the input size {}x{} is not positive: set input_width and input_height",
         from.input_width, from.input_height);
  }
  to.input_width = from.input_width;
  to.input_height = from.input_height;
  if (from.output_width == 0 && from.output_height == 0) {
    if (!(from.scale > 0 && std::isfinite(from.scale))) {
      fail(ErrorCode::invalid_argument, "the scale is {}: it must be a positive number", from.scale);
    }
    to.output_width = scaled(from.input_width, from.scale);
    to.output_height = scaled(from.input_height, from.scale);
  } else if (from.output_width <= 0 || from.output_height <= 0) {
    fail(ErrorCode::invalid_argument, "the output size {}x{} is not positive: set both sides, or neither and the scale",
         from.output_width, from.output_height);
  } else {
    to.output_width = from.output_width;
    to.output_height = from.output_height;
  }
}

ColorFix resolve_color_fix(int fix, const weights::ModelConfig& config) {
  switch (fix) {
    case FLASHVSR_COLOR_FIX_AUTO: return parse_color_fix(config.color_fix);
    case FLASHVSR_COLOR_FIX_ADAIN: return ColorFix::adain;
    case FLASHVSR_COLOR_FIX_WAVELET: return ColorFix::wavelet;
    case FLASHVSR_COLOR_FIX_NONE: return ColorFix::none;
  }
  fail(ErrorCode::invalid_argument, "color_fix is {}: it is no flashvsr_color_fix", fix);
}

ops::LocalWindow resolve_local_window(int window, const weights::ModelConfig& config) {
  switch (window) {
    case FLASHVSR_LOCAL_WINDOW_AUTO: return parse_local_window(config.local_window);
    case FLASHVSR_LOCAL_WINDOW_TRUNCATED: return ops::LocalWindow::truncated;
    case FLASHVSR_LOCAL_WINDOW_PRESERVED: return ops::LocalWindow::preserved;
  }
  fail(ErrorCode::invalid_argument, "local_window is {}: it is no flashvsr_local_window", window);
}

std::optional<TileCounts> resolve_tiles(const flashvsr_stream_settings& from) {
  if (from.tile_columns == 0 && from.tile_rows == 0) return std::nullopt;
  if (from.tile_columns < 1 || from.tile_rows < 1) {
    fail(ErrorCode::invalid_argument, "{}x{} tiles: give two numbers from 1, or 0 and 0 for as few as memory needs",
         from.tile_columns, from.tile_rows);
  }
  return TileCounts{from.tile_columns, from.tile_rows};
}

Parameter copy_prompt(const flashvsr_stream_settings& settings, std::int64_t text_dim) {
  if (settings.prompt_tokens < 1 || settings.prompt_tokens > kMostPromptTokens) {
    fail(ErrorCode::invalid_argument, "prompt_tokens is {}: it must lie between 1 and {}", settings.prompt_tokens,
         kMostPromptTokens);
  }
  const Tensor values = allocate_host({settings.prompt_tokens, text_dim}, DType::f32);
  std::memcpy(values.mutable_raw(), settings.prompt, values.bytes());
  for (std::int64_t i = 0; i < values.elements(); ++i) {
    if (!std::isfinite(values.data<float>()[i])) {
      fail(ErrorCode::invalid_argument, "value {} of the prompt is not finite", i);
    }
  }
  return Parameter("prompt", values);
}

}  // namespace

void require_pointer(const void* pointer, const char* name) {
  if (pointer == nullptr) fail(ErrorCode::invalid_argument, "{} is NULL", name);
}

ops::BackendSettings to_backend_settings(const flashvsr_model_settings& settings) {
  check_struct(settings, "flashvsr_model_settings", "start from flashvsr_default_model_settings()");
  if (settings.threads < 0) {
    fail(ErrorCode::invalid_argument, "threads is {}: give a number from 1, or 0 for all cores", settings.threads);
  }
  const ops::Device device = to_device(raw(settings.device));
  if (settings.device_index < 0 || (settings.device_index > 0 && device != ops::Device::cuda)) {
    fail(ErrorCode::invalid_argument,
         "device_index is {}: give a number from 0 with FLASHVSR_DEVICE_CUDA, or 0 with other devices",
         settings.device_index);
  }
  return {.device = device,
          .precision = to_precision(raw(settings.precision)),
          .threads = settings.threads,
          .memory_limit = settings.memory_limit,
          .device_index = settings.device_index};
}

std::optional<weights::Variant> to_variant(const flashvsr_model_settings& settings) {
  const int variant = raw(settings.variant);
  switch (variant) {
    case FLASHVSR_VARIANT_FROM_FILE: return std::nullopt;
    case FLASHVSR_VARIANT_V1: return weights::Variant::v1;
    case FLASHVSR_VARIANT_V1_1: return weights::Variant::v1_1;
  }
  fail(ErrorCode::invalid_argument, "variant is {}: it is no flashvsr_variant", variant);
}

StreamSettings to_stream_settings(const flashvsr_stream_settings& from, const weights::ModelConfig& config) {
  StreamSettings to;
  resolve_size(from, to);
  const int decoder = raw(from.decoder);
  if (decoder != FLASHVSR_DECODER_TINY && decoder != FLASHVSR_DECODER_FULL) {
    fail(ErrorCode::invalid_argument, "decoder is {}: it is no flashvsr_decoder", decoder);
  }
  to.full_decoder = decoder == FLASHVSR_DECODER_FULL;
  to.color_fix = resolve_color_fix(raw(from.color_fix), config);
  to.sparse_ratio = from.sparse_ratio == 0 ? config.sparse_ratio : from.sparse_ratio;
  to.all_allowed_blocks = from.sparse_ratio < 0;
  to.local_range = from.local_range == 0 ? config.local_range : from.local_range;
  to.local_window = resolve_local_window(raw(from.local_window), config);
  to.kv_chunks = from.kv_chunks == 0 ? config.kv_ratio : from.kv_chunks;
  to.tiles = resolve_tiles(from);
  to.seed = from.seed;
  to.image_input = from.image_input != 0;
  to.image_output = from.image_output != 0;
  if (from.prompt != nullptr) to.prompt = copy_prompt(from, config.text_dim);
  if (from.noise != nullptr) {
    to.noise = [noise = from.noise, user = from.noise_user](std::int64_t latent, std::int64_t rows,
                                                            std::int64_t columns, float* values) {
      if (noise(user, latent, static_cast<int>(rows), static_cast<int>(columns), values) != 0) {
        fail(ErrorCode::cancelled, "cancelled by the noise callback");
      }
    };
  }
  if (from.progress != nullptr) {
    to.progress = [progress = from.progress, user = from.progress_user](std::int64_t frames_done) {
      if (progress(user, frames_done) != 0) fail(ErrorCode::cancelled, "cancelled by the progress callback");
    };
  }
  return to;
}

ops::SemiPlanarImage to_image(const flashvsr_image* image, std::int64_t width, std::int64_t height) {
  require_pointer(image, "image");
  check_struct(*image, "flashvsr_image", "start from flashvsr_default_image()");
  const int format = raw(image->format), siting = raw(image->siting);
  if (format != FLASHVSR_IMAGE_NV12 && format != FLASHVSR_IMAGE_P010) {
    fail(ErrorCode::invalid_argument, "format is {}: it is no flashvsr_image_format", format);
  }
  if (siting != FLASHVSR_CHROMA_LEFT && siting != FLASHVSR_CHROMA_CENTER && siting != FLASHVSR_CHROMA_TOP_LEFT) {
    fail(ErrorCode::invalid_argument, "siting is {}: it is no flashvsr_chroma_siting", siting);
  }
  return {.luma = image->luma,
          .chroma = image->chroma,
          .luma_stride = image->luma_stride,
          .chroma_stride = image->chroma_stride,
          .width = width,
          .height = height,
          .bit_depth = format == FLASHVSR_IMAGE_P010 ? 10 : 8,
          .matrix = image->matrix,
          .full_range = image->full_range != 0,
          .siting = siting == FLASHVSR_CHROMA_CENTER ? ChromaSiting::center
                    : siting == FLASHVSR_CHROMA_LEFT ? ChromaSiting::left
                                                     : ChromaSiting::top_left};
}

}  // namespace flashvsr::stream::c_api
