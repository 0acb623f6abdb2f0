// The C API over Stream: handles, defaults, error codes.
#include "core/threads.h"
#include "flashvsr/flashvsr.h"
#include "ops/backend.h"
#include "stream/model_search.h"
#include "stream/stream.h"
#include "weights/model_files.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <utility>

namespace {

using namespace flashvsr;

#define FLASHVSR_STRING(x) #x
#define FLASHVSR_VERSION_TEXT(major, minor, patch) \
  FLASHVSR_STRING(major) "." FLASHVSR_STRING(minor) "." FLASHVSR_STRING(patch)
constexpr const char* kVersion =
    FLASHVSR_VERSION_TEXT(FLASHVSR_VERSION_MAJOR, FLASHVSR_VERSION_MINOR, FLASHVSR_VERSION_PATCH);
constexpr int kMostPromptTokens = 65536;

// ------------------------------------------------------------------------------------------------------ errors, logs

thread_local std::string last_error;

flashvsr_status to_status(ErrorCode code) { return static_cast<flashvsr_status>(-static_cast<int>(code)); }

static_assert(FLASHVSR_ERROR_INVALID_ARGUMENT == -static_cast<int>(ErrorCode::invalid_argument));
static_assert(FLASHVSR_ERROR_CANCELLED == -static_cast<int>(ErrorCode::cancelled));
static_assert(FLASHVSR_ERROR_INTERNAL == -static_cast<int>(ErrorCode::internal));

flashvsr_status set_error(flashvsr_status status, const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();  // no memory for the message: the code has to do
  }
  return status;
}

// Runs a call and turns what it throws into a code and a message: nothing may cross into C.
template <typename Call>
flashvsr_status guarded(const Call& call) noexcept {
  try {
    return call();
  } catch (const Error& error) {
    return set_error(to_status(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return set_error(FLASHVSR_ERROR_OUT_OF_MEMORY, "out of memory: choose a smaller output size");
  } catch (const std::exception& error) {
    return set_error(FLASHVSR_ERROR_INTERNAL, error.what());
  } catch (...) {
    return set_error(FLASHVSR_ERROR_INTERNAL, "an exception of unknown type");
  }
}

class Log {
 public:
  using Callback = void (*)(void*, flashvsr_log_level, const char*);

  void set(Callback callback, void* user) {
    const std::scoped_lock lock(mutex_);
    callback_ = callback;
    user_ = user;
  }
  void write(flashvsr_log_level level, const std::string& message) {
    std::pair<Callback, void*> target;
    {
      const std::scoped_lock lock(mutex_);
      target = {callback_, user_};
    }
    if (target.first != nullptr) target.first(target.second, level, message.c_str());
  }

 private:
  std::mutex mutex_;
  Callback callback_ = nullptr;
  void* user_ = nullptr;
};

Log& log() {
  static Log instance;
  return instance;
}

void require_pointer(const void* pointer, const char* name) {
  if (pointer == nullptr) fail(ErrorCode::invalid_argument, "{} is NULL", name);
}

// The number behind an enumeration that C code has set: it may be none of the enumerators, which C++ must not load.
template <typename Enumeration>
int raw(const Enumeration& value) {
  static_assert(sizeof(Enumeration) == sizeof(int));
  int number = 0;
  std::memcpy(&number, &value, sizeof number);
  return number;
}

template <typename Settings>
void check_struct(const Settings& settings, const char* type, const char* remedy) {
  if (settings.struct_size != sizeof(Settings)) {
    fail(ErrorCode::invalid_argument, "{}: struct_size is {} instead of {}: {}, and use the header of this library",
         type, settings.struct_size, sizeof(Settings), remedy);
  }
}

// ------------------------------------------------------------------------------------------------------------- models

// Shared by its handle and its streams, so that the order in which they are closed does no harm.
struct Model {
  std::unique_ptr<ops::Operations> operations;
  std::unique_ptr<stream::Networks> networks;
  int threads = 0;
  std::string variant, device, precision;
  std::int64_t parameters = 0;

  std::mutex mutex;
  std::atomic<std::thread::id> owner{};  // of the mutex
};

// The back end belongs to one thread at a time.
class Use {
 public:
  explicit Use(Model& model) : model_(refuse_callbacks(model)), lock_(model.mutex), threads_(model.threads) {
    model_.owner = std::this_thread::get_id();
  }
  ~Use() { model_.owner = std::thread::id(); }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

  static Model& refuse_callbacks(Model& model) {
    if (model.owner == std::this_thread::get_id()) {
      fail(ErrorCode::invalid_argument,
           "a callback called back into the streams of its own model: return from the callback first");
    }
    return model;
  }

 private:
  Model& model_;
  std::scoped_lock<std::mutex> lock_;
  ThreadScope threads_;
};

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

std::optional<weights::Variant> to_variant(int variant) {
  switch (variant) {
    case FLASHVSR_VARIANT_FROM_FILE: return std::nullopt;
    case FLASHVSR_VARIANT_V1: return weights::Variant::v1;
    case FLASHVSR_VARIANT_V1_1: return weights::Variant::v1_1;
  }
  fail(ErrorCode::invalid_argument, "variant is {}: it is no flashvsr_variant", variant);
}

std::int64_t count_parameters(const weights::ModelFiles& files) {
  std::int64_t count = 0;
  for (const WeightMap* map : {&files.dit, &files.projector, &files.decoder, &files.vae}) {
    for (const auto& [name, parameter] : *map) count += parameter.shape().elements();
  }
  return count;
}

std::shared_ptr<Model> open_model(const char* path, const flashvsr_model_settings& settings) {
  check_struct(settings, "flashvsr_model_settings", "start from flashvsr_default_model_settings()");
  if (settings.threads < 0) {
    fail(ErrorCode::invalid_argument, "threads is {}: give a number from 1, or 0 for all cores", settings.threads);
  }
  const ops::BackendSettings backend{.device = to_device(raw(settings.device)),
                                     .precision = to_precision(raw(settings.precision)),
                                     .threads = settings.threads,
                                     .memory_limit = settings.memory_limit};
  const auto variant = to_variant(raw(settings.variant));
  const auto file = stream::find_model(path != nullptr ? path : stream::kBuiltInModel);

  auto model = std::make_shared<Model>();
  const ThreadScope threads(settings.threads);
  weights::ModelFiles files = weights::load_model(file, variant);
  model->threads = settings.threads;
  model->variant = weights::to_string(files.config.variant);
  model->parameters = count_parameters(files);
  model->operations = ops::make_backend(backend);
  // "cpu-reference" is a CPU too.
  const std::string backend_name = model->operations->name();
  model->device = backend_name.substr(0, backend_name.find('-'));
  model->precision = model->operations->compute_type() == DType::bf16 ? "bf16" : "f32";
  model->networks = std::make_unique<stream::Networks>(*model->operations, std::move(files));
  log().write(FLASHVSR_LOG_INFO,
              fmt::format("model {} ({}): {}, {:.1f} million parameters, on {} in {}",
                          model->networks->files.config.name, file.string(), model->variant,
                          static_cast<double>(model->parameters) / 1e6, model->device, model->precision));
  return model;
}

// ------------------------------------------------------------------------------------------------------------ streams

std::int64_t scaled(int size, double scale) {
  const double result = std::floor(size * scale + 0.5);
  if (!(result >= 1 && result <= std::numeric_limits<int>::max())) {
    fail(ErrorCode::invalid_argument, "a scale of {} makes {} pixels of {}: the output must have at least one", scale,
         result, size);
  }
  return static_cast<std::int64_t>(result);
}

void resolve_size(const flashvsr_stream_settings& from, stream::StreamSettings& to) {
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

stream::ColorFix resolve_color_fix(int fix, const weights::ModelConfig& config) {
  switch (fix) {
    case FLASHVSR_COLOR_FIX_AUTO: return stream::parse_color_fix(config.color_fix);
    case FLASHVSR_COLOR_FIX_ADAIN: return stream::ColorFix::adain;
    case FLASHVSR_COLOR_FIX_WAVELET: return stream::ColorFix::wavelet;
    case FLASHVSR_COLOR_FIX_NONE: return stream::ColorFix::none;
  }
  fail(ErrorCode::invalid_argument, "color_fix is {}: it is no flashvsr_color_fix", fix);
}

ops::LocalWindow resolve_local_window(int window, const weights::ModelConfig& config) {
  switch (window) {
    case FLASHVSR_LOCAL_WINDOW_AUTO: return stream::parse_local_window(config.local_window);
    case FLASHVSR_LOCAL_WINDOW_TRUNCATED: return ops::LocalWindow::truncated;
    case FLASHVSR_LOCAL_WINDOW_PRESERVED: return ops::LocalWindow::preserved;
  }
  fail(ErrorCode::invalid_argument, "local_window is {}: it is no flashvsr_local_window", window);
}

std::optional<stream::TileCounts> resolve_tiles(const flashvsr_stream_settings& from) {
  if (from.tile_columns == 0 && from.tile_rows == 0) return std::nullopt;
  if (from.tile_columns < 1 || from.tile_rows < 1) {
    fail(ErrorCode::invalid_argument, "{}x{} tiles: give two numbers from 1, or 0 and 0 for as few as memory needs",
         from.tile_columns, from.tile_rows);
  }
  return stream::TileCounts{from.tile_columns, from.tile_rows};
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

stream::StreamSettings resolve(const flashvsr_stream_settings& from, const weights::ModelConfig& config) {
  stream::StreamSettings to;
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

void warn_of_tiles(const stream::Stream& stream, bool chosen) {
  const stream::MemoryPlan& plan = *stream.memory_plan();
  if (plan.tiles.count() == 1) return;
  log().write(
      FLASHVSR_LOG_WARNING,
      fmt::format("frames are cut into {}x{} tiles of {}x{} pixels{}: attention does not cross their borders, so "
                  "quality suffers there, and overlaps cost time",
                  plan.tiles.columns, plan.tiles.rows, plan.tile_width, plan.tile_height,
                  chosen ? "" : " since there is too little memory for whole ones"));
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

flashvsr_status to_answer(stream::Received received) {
  switch (received) {
    case stream::Received::frame: return FLASHVSR_OK;
    case stream::Received::again: return FLASHVSR_AGAIN;
    case stream::Received::end: return FLASHVSR_END;
  }
  fail(ErrorCode::internal, "an unknown answer of the stream");
}

}  // namespace

struct flashvsr_model {
  std::shared_ptr<Model> model;
};

struct flashvsr_stream {
  std::shared_ptr<Model> model;
  std::unique_ptr<stream::Stream> stream;
};

extern "C" {

const char* flashvsr_version(void) { return kVersion; }

const char* flashvsr_last_error(void) { return last_error.c_str(); }

void flashvsr_set_log_callback(void (*callback)(void* user, flashvsr_log_level level, const char* message),
                               void* user) {
  guarded([&] {
    log().set(callback, user);
    return FLASHVSR_OK;
  });
}

flashvsr_model_settings flashvsr_default_model_settings(void) {
  flashvsr_model_settings settings{};
  settings.struct_size = sizeof settings;
  return settings;
}

flashvsr_stream_settings flashvsr_default_stream_settings(void) {
  flashvsr_stream_settings settings{};
  settings.struct_size = sizeof settings;
  settings.scale = 4;
  return settings;
}

flashvsr_image flashvsr_default_image(void) {
  flashvsr_image image{};
  image.struct_size = sizeof image;
  image.matrix = 1;
  return image;
}

flashvsr_status flashvsr_model_open(const char* path, const flashvsr_model_settings* settings, flashvsr_model** model) {
  return guarded([&] {
    require_pointer(model, "model");
    *model = nullptr;
    const flashvsr_model_settings defaults = flashvsr_default_model_settings();
    auto handle = std::make_unique<flashvsr_model>();
    handle->model = open_model(path, settings != nullptr ? *settings : defaults);
    *model = handle.release();
    return FLASHVSR_OK;
  });
}

flashvsr_status flashvsr_model_get_info(const flashvsr_model* model, flashvsr_model_info* info) {
  return guarded([&] {
    require_pointer(model, "model");
    require_pointer(info, "info");
    check_struct(*info, "flashvsr_model_info", "set it to sizeof(flashvsr_model_info)");
    const Model& m = *model->model;
    const stream::Networks& networks = *m.networks;
    const weights::ModelConfig& config = networks.files.config;
    info->name = config.name.c_str();
    info->variant = m.variant.c_str();
    info->device = m.device.c_str();
    info->precision = m.precision.c_str();
    info->color_fix = config.color_fix.c_str();
    info->has_tiny_decoder = networks.tiny_decoder.has_value();
    info->has_full_decoder = networks.full_decoder.has_value();
    info->text_dim = static_cast<int>(config.text_dim);
    info->parameters = m.parameters;
    info->sparse_ratio = config.sparse_ratio;
    info->local_range = static_cast<int>(config.local_range);
    info->kv_chunks = static_cast<int>(config.kv_ratio);
    info->scale = static_cast<int>(config.scale);
    return FLASHVSR_OK;
  });
}

void flashvsr_model_close(flashvsr_model* model) { delete model; }

flashvsr_status flashvsr_stream_open(flashvsr_model* model, const flashvsr_stream_settings* settings,
                                     flashvsr_stream** stream) {
  return guarded([&] {
    require_pointer(stream, "stream");
    *stream = nullptr;
    require_pointer(model, "model");
    require_pointer(settings, "settings");
    check_struct(*settings, "flashvsr_stream_settings", "start from flashvsr_default_stream_settings()");
    const stream::Networks& networks = *model->model->networks;
    auto handle = std::make_unique<flashvsr_stream>();
    handle->model = model->model;
    const Use use(*model->model);
    handle->stream = std::make_unique<stream::Stream>(networks, resolve(*settings, networks.files.config));
    warn_of_tiles(*handle->stream, settings->tile_columns > 0);
    *stream = handle.release();
    return FLASHVSR_OK;
  });
}

flashvsr_status flashvsr_stream_get_size(const flashvsr_stream* stream, int* width, int* height) {
  return guarded([&] {
    require_pointer(stream, "stream");
    if (width != nullptr) *width = static_cast<int>(stream->stream->settings().output_width);
    if (height != nullptr) *height = static_cast<int>(stream->stream->settings().output_height);
    return FLASHVSR_OK;
  });
}

flashvsr_status flashvsr_stream_get_memory(const flashvsr_stream* stream, flashvsr_memory* memory) {
  return guarded([&] {
    require_pointer(stream, "stream");
    require_pointer(memory, "memory");
    check_struct(*memory, "flashvsr_memory", "set it to sizeof(flashvsr_memory)");
    const stream::MemoryPlan& plan = *stream->stream->memory_plan();
    memory->needed = plan.total;
    memory->available = plan.available;
    memory->weights = plan.weights;
    memory->kv_cache = plan.kv_cache;
    memory->state = plan.constants + plan.waiting_frames + plan.memories + plan.sent_images + plan.finished;
    memory->working = plan.largest_working() + plan.gaps;
    memory->spilled = plan.spilled;
    memory->decoder_slice = plan.decoder_slice;
    memory->tile_columns = static_cast<int>(plan.tiles.columns);
    memory->tile_rows = static_cast<int>(plan.tiles.rows);
    memory->tile_width = static_cast<int>(plan.tile_width);
    memory->tile_height = static_cast<int>(plan.tile_height);
    return FLASHVSR_OK;
  });
}

flashvsr_status flashvsr_stream_send(flashvsr_stream* stream, const uint8_t* rgb, ptrdiff_t stride) {
  return guarded([&] {
    require_pointer(stream, "stream");
    const Use use(*stream->model);
    return stream->stream->send(rgb, stride) ? FLASHVSR_OK : FLASHVSR_AGAIN;
  });
}

flashvsr_status flashvsr_stream_send_image(flashvsr_stream* stream, const flashvsr_image* image) {
  return guarded([&] {
    require_pointer(stream, "stream");
    const stream::StreamSettings& settings = stream->stream->settings();
    const ops::SemiPlanarImage source = to_image(image, settings.input_width, settings.input_height);
    const Use use(*stream->model);
    return stream->stream->send(source) ? FLASHVSR_OK : FLASHVSR_AGAIN;
  });
}

flashvsr_status flashvsr_stream_drain(flashvsr_stream* stream) {
  return guarded([&] {
    require_pointer(stream, "stream");
    const Use use(*stream->model);
    stream->stream->drain();
    return FLASHVSR_OK;
  });
}

flashvsr_status flashvsr_stream_receive(flashvsr_stream* stream, uint8_t* rgb, ptrdiff_t stride) {
  return guarded([&] {
    require_pointer(stream, "stream");
    // Only copies: other streams may compute meanwhile.
    Use::refuse_callbacks(*stream->model);
    return to_answer(stream->stream->receive(rgb, stride));
  });
}

flashvsr_status flashvsr_stream_receive_image(flashvsr_stream* stream, const flashvsr_image* image) {
  return guarded([&] {
    require_pointer(stream, "stream");
    Use::refuse_callbacks(*stream->model);
    const stream::StreamSettings& settings = stream->stream->settings();
    return to_answer(stream->stream->receive(to_image(image, settings.output_width, settings.output_height)));
  });
}

flashvsr_status flashvsr_stream_reset(flashvsr_stream* stream) {
  return guarded([&] {
    require_pointer(stream, "stream");
    const Use use(*stream->model);
    stream->stream->reset();
    return FLASHVSR_OK;
  });
}

flashvsr_status flashvsr_stream_save(const flashvsr_stream* stream, void* data, size_t* size) {
  return guarded([&] {
    require_pointer(stream, "stream");
    require_pointer(size, "size");
    const Use use(*stream->model);
    const std::size_t needed = stream->stream->saved_size();
    const std::size_t given = std::exchange(*size, needed);
    if (data == nullptr) return FLASHVSR_OK;
    if (given < needed) {
      fail(ErrorCode::invalid_argument, "the buffer has {} bytes: the stream's state needs {}", given, needed);
    }
    stream->stream->save({static_cast<std::byte*>(data), needed});
    return FLASHVSR_OK;
  });
}

flashvsr_status flashvsr_stream_restore(flashvsr_stream* stream, const void* data, size_t size) {
  return guarded([&] {
    require_pointer(stream, "stream");
    require_pointer(data, "data");
    const Use use(*stream->model);
    stream->stream->restore({static_cast<const std::byte*>(data), size});
    return FLASHVSR_OK;
  });
}

void flashvsr_stream_close(flashvsr_stream* stream) {
  if (stream == nullptr) return;
  const flashvsr_status status = guarded([&] {
    const std::shared_ptr<Model> model = stream->model;
    const Use use(*model);
    delete stream;
    return FLASHVSR_OK;
  });
  // Only from inside a callback: the stream is at work and cannot go.
  if (status != FLASHVSR_OK) log().write(FLASHVSR_LOG_ERROR, last_error);
}

}  // extern "C"
