// What C code sets, checked and as the engine takes it.
#pragma once

#include "core/error.h"
#include "flashvsr/flashvsr.h"
#include "ops/backend.h"
#include "stream/stream.h"
#include "weights/model_files.h"

#include <cstdint>
#include <optional>

// All throw Error(invalid_argument) that names the field and what it must be.
namespace flashvsr::stream::c_api {

void require_pointer(const void* pointer, const char* name);

// struct_size is that of this library's header; `remedy` says what sets it.
template <typename Settings>
void check_struct(const Settings& settings, const char* type, const char* remedy) {
  if (settings.struct_size != sizeof(Settings)) {
    fail(ErrorCode::invalid_argument, "{}: struct_size is {} instead of {}: {}, and use the header of this library",
         type, settings.struct_size, sizeof(Settings), remedy);
  }
}

// Checked: struct_size, device, precision, threads.
ops::BackendSettings to_backend_settings(const flashvsr_model_settings& settings);
// nullopt: the model says it.
std::optional<weights::Variant> to_variant(const flashvsr_model_settings& settings);

// Zeros become what the model recommends. Callbacks that ask to stop throw Error(cancelled).
StreamSettings to_stream_settings(const flashvsr_stream_settings& from, const weights::ModelConfig& config);

// Of a stream's input or output size.
ops::SemiPlanarImage to_image(const flashvsr_image* image, std::int64_t width, std::int64_t height);

}  // namespace flashvsr::stream::c_api
