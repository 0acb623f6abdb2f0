// What `upscale` tells its user while it works: a progress bar on a terminal, JSON lines, or nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace flashvsr::cli {

// Thread-safe.
class Reporter {
 public:
  enum class Style { text, json, quiet };

  // JSON lines go to `json_output`; everything else to standard error.
  Reporter(Style style, std::FILE* json_output);

  // `details` become members of the object in JSON; `text` is for people.
  void start(const nlohmann::ordered_json& details, const std::string& text, std::optional<std::int64_t> total_frames);
  void note(const std::string& text);
  void progress(std::int64_t frames_done);
  void done(const nlohmann::ordered_json& details, const std::string& text);
  // Always one line on standard error; with JSON also an error object, unless JSON goes there itself.
  void error(const std::string& message);

 private:
  void clear_bar();
  void draw_bar(std::int64_t frames_done, double seconds);
  void write_json(const nlohmann::ordered_json& object);
  double elapsed() const;

  const Style style_;
  std::FILE* const json_output_;
  const bool terminal_;
  std::mutex mutex_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  double last_update_ = -1;
  std::optional<std::int64_t> total_;
  bool bar_drawn_ = false;
};

// "1:05:09", "0:07"
std::string format_duration(double seconds);
// Without line breaks.
std::string one_line(std::string text);

}  // namespace flashvsr::cli
