// The C API of flashvsr.h with RAII and exceptions (C++17).
//
//   flashvsr::api::Model model("nano");
//   auto settings = flashvsr::api::Stream::default_settings();
//   settings.input_width = 320, settings.input_height = 180;
//   flashvsr::api::Stream stream(model, settings);
//   std::vector<std::uint8_t> output(stream.frame_bytes());
//   for (;;) {
//     switch (stream.receive(output.data())) {
//       case FLASHVSR_OK: use(output); continue;
//       case FLASHVSR_END: return;
//       default: break;  // FLASHVSR_AGAIN
//     }
//     if (read_frame(input)) stream.send(input.data()); else stream.drain();
//   }
#ifndef FLASHVSR_FLASHVSR_HPP
#define FLASHVSR_FLASHVSR_HPP

#include <flashvsr/flashvsr.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace flashvsr::api {

class Error : public std::runtime_error {
 public:
  Error(flashvsr_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  flashvsr_status status() const noexcept { return status_; }

 private:
  flashvsr_status status_;
};

// Throws if `status` is an error, else gives it back (OK, AGAIN or END).
inline flashvsr_status check(flashvsr_status status) {
  if (status < 0) throw Error(status, flashvsr_last_error());
  return status;
}

class Model {
 public:
  static flashvsr_model_settings default_settings() { return flashvsr_default_model_settings(); }

  // The name of an installed model, a packed file, or a folder of published files.
  explicit Model(const std::string& path = "nano", const flashvsr_model_settings& settings = default_settings()) {
    flashvsr_model* handle = nullptr;
    check(flashvsr_model_open(path.c_str(), &settings, &handle));
    handle_.reset(handle);
  }

  // Its strings live as long as the model.
  flashvsr_model_info info() const {
    flashvsr_model_info info{};
    info.struct_size = sizeof info;
    check(flashvsr_model_get_info(handle_.get(), &info));
    return info;
  }
  flashvsr_model* handle() const { return handle_.get(); }

 private:
  struct Close {
    void operator()(flashvsr_model* handle) const { flashvsr_model_close(handle); }
  };
  std::unique_ptr<flashvsr_model, Close> handle_;
};

class Stream {
 public:
  static flashvsr_stream_settings default_settings() { return flashvsr_default_stream_settings(); }

  Stream(const Model& model, const flashvsr_stream_settings& settings) : input_width_(settings.input_width) {
    flashvsr_stream* handle = nullptr;
    check(flashvsr_stream_open(model.handle(), &settings, &handle));
    handle_.reset(handle);
    check(flashvsr_stream_get_size(handle, &width_, &height_));
  }

  // Of the output, in pixels.
  int width() const { return width_; }
  int height() const { return height_; }
  std::size_t frame_bytes() const { return static_cast<std::size_t>(width_) * static_cast<std::size_t>(height_) * 3; }

  // What the stream takes, as planned when it was opened.
  flashvsr_memory memory() const {
    flashvsr_memory memory{};
    memory.struct_size = sizeof memory;
    check(flashvsr_stream_get_memory(handle_.get(), &memory));
    return memory;
  }

  // `stride` in bytes; 0: rows lie side by side. OK, or AGAIN: receive first.
  flashvsr_status send(const std::uint8_t* rgb, std::ptrdiff_t stride = 0) {
    return check(flashvsr_stream_send(handle_.get(), rgb, stride != 0 ? stride : std::ptrdiff_t{3} * input_width_));
  }
  static flashvsr_image default_image() { return flashvsr_default_image(); }
  // OK, or AGAIN: receive first. The image has been read when this returns.
  flashvsr_status send(const flashvsr_image& image) { return check(flashvsr_stream_send_image(handle_.get(), &image)); }
  void drain() { check(flashvsr_stream_drain(handle_.get())); }
  // OK, AGAIN: send first, or END.
  flashvsr_status receive(std::uint8_t* rgb, std::ptrdiff_t stride = 0) {
    return check(flashvsr_stream_receive(handle_.get(), rgb, stride != 0 ? stride : std::ptrdiff_t{3} * width_));
  }
  // OK, AGAIN: send first, or END. The image has been written when this returns.
  flashvsr_status receive(const flashvsr_image& image) {
    return check(flashvsr_stream_receive_image(handle_.get(), &image));
  }
  void reset() { check(flashvsr_stream_reset(handle_.get())); }

  std::vector<std::uint8_t> save() const {
    std::size_t size = 0;
    check(flashvsr_stream_save(handle_.get(), nullptr, &size));
    std::vector<std::uint8_t> state(size);
    check(flashvsr_stream_save(handle_.get(), state.data(), &size));
    return state;
  }
  void restore(const std::vector<std::uint8_t>& state) {
    check(flashvsr_stream_restore(handle_.get(), state.data(), state.size()));
  }
  flashvsr_stream* handle() const { return handle_.get(); }

 private:
  struct Close {
    void operator()(flashvsr_stream* handle) const { flashvsr_stream_close(handle); }
  };
  std::unique_ptr<flashvsr_stream, Close> handle_;
  int input_width_ = 0, width_ = 0, height_ = 0;
};

}  // namespace flashvsr::api

#endif
