// The C API over Stream: handles, defaults, error codes.
#include "core/threads.h"
#include "flashvsr/flashvsr.h"
#include "ops/backend.h"
#include "stream/api_settings.h"
#include "stream/model_search.h"
#include "stream/stream.h"
#include "weights/model_files.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <utility>

namespace {

using namespace flashvsr;
using namespace flashvsr::stream::c_api;

#define FLASHVSR_STRING(x) #x
#define FLASHVSR_VERSION_TEXT(major, minor, patch) \
  FLASHVSR_STRING(major) "." FLASHVSR_STRING(minor) "." FLASHVSR_STRING(patch)
constexpr const char* kVersion =
    FLASHVSR_VERSION_TEXT(FLASHVSR_VERSION_MAJOR, FLASHVSR_VERSION_MINOR, FLASHVSR_VERSION_PATCH);

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
    model_.operations->enter_thread();
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

std::int64_t count_parameters(const weights::ModelFiles& files) {
  std::int64_t count = 0;
  for (const WeightMap* map : {&files.dit, &files.projector, &files.decoder, &files.vae}) {
    for (const auto& [name, parameter] : *map) count += parameter.shape().elements();
  }
  return count;
}

std::shared_ptr<Model> open_model(const char* path, const flashvsr_model_settings& settings) {
  const ops::BackendSettings backend = to_backend_settings(settings);
  const auto variant = to_variant(settings);
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
    handle->stream = std::make_unique<stream::Stream>(networks, to_stream_settings(*settings, networks.files.config));
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
