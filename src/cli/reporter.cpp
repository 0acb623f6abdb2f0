#include "cli/reporter.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace flashvsr::cli {
namespace {

using nlohmann::ordered_json;

constexpr double kBarInterval = 0.1, kJsonInterval = 0.5;  // seconds
constexpr int kBarWidth = 30;

}  // namespace

std::string format_duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(std::clamp(seconds, 0.0, 1e9)));
  const std::int64_t hours = whole / 3600, minutes = whole / 60 % 60;
  return hours > 0 ? fmt::format("{}:{:02}:{:02}", hours, minutes, whole % 60)
                   : fmt::format("{}:{:02}", minutes, whole % 60);
}

std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

Reporter::Reporter(Style style, std::FILE* json_output)
    : style_(style), json_output_(json_output), terminal_(isatty(STDERR_FILENO) != 0) {}

double Reporter::elapsed() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void Reporter::write_json(const ordered_json& object) {
  // File names need not be UTF-8.
  fmt::print(json_output_, "{}\n", object.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
  std::fflush(json_output_);
}

void Reporter::clear_bar() {
  if (!bar_drawn_) return;
  fmt::print(stderr, "\r\x1b[K");
  std::fflush(stderr);
  bar_drawn_ = false;
}

void Reporter::start(const ordered_json& details, const std::string& text, std::optional<std::int64_t> total_frames) {
  const std::scoped_lock lock(mutex_);
  start_ = std::chrono::steady_clock::now();
  total_ = total_frames;
  if (style_ == Style::json) {
    ordered_json object{{"event", "start"}};
    object.update(details);
    write_json(object);
  } else if (style_ == Style::text) {
    fmt::print(stderr, "{}\n", text);
    if (terminal_) draw_bar(0, 0);
  }
}

void Reporter::note(const std::string& text) {
  const std::scoped_lock lock(mutex_);
  if (style_ == Style::json) {
    write_json({{"event", "note"}, {"message", text}});
  } else if (style_ == Style::text) {
    clear_bar();
    fmt::print(stderr, "note: {}\n", one_line(text));
  }
}

void Reporter::progress(std::int64_t frames_done) {
  const std::scoped_lock lock(mutex_);
  const double seconds = elapsed();
  const double interval = style_ == Style::json ? kJsonInterval : kBarInterval;
  if (style_ == Style::quiet || (last_update_ >= 0 && seconds - last_update_ < interval)) return;
  last_update_ = seconds;
  if (style_ == Style::text) {
    if (terminal_) draw_bar(frames_done, seconds);
    return;
  }
  const double rate = static_cast<double>(frames_done) / std::max(seconds, 1e-9);
  ordered_json object{{"event", "progress"}, {"frames", frames_done}, {"seconds", seconds}, {"fps", rate}};
  if (total_) {
    object["total"] = std::max(*total_, frames_done);
    if (frames_done > 0) {
      object["seconds_left"] = static_cast<double>(std::max<std::int64_t>(*total_ - frames_done, 0)) / rate;
    }
  }
  write_json(object);
}

void Reporter::draw_bar(std::int64_t frames_done, double seconds) {
  const double rate = static_cast<double>(frames_done) / std::max(seconds, 1e-9);
  std::string line;
  if (total_ && *total_ > 0) {
    const double share = std::min(static_cast<double>(frames_done) / static_cast<double>(*total_), 1.0);
    const auto filled = static_cast<std::size_t>(share * kBarWidth);
    line = fmt::format("[{}{}] {}/{} frames", std::string(filled, '='), std::string(kBarWidth - filled, ' '),
                       frames_done, std::max(*total_, frames_done));
  } else {
    line = fmt::format("{} frames", frames_done);
  }
  if (frames_done > 0) {
    line += fmt::format("  {:.2f} FPS", rate);
    if (total_) {
      line += fmt::format("  {} left", format_duration(static_cast<double>(*total_ - frames_done) / rate));
    }
  }
  fmt::print(stderr, "\r{}\x1b[K", line);
  std::fflush(stderr);
  bar_drawn_ = true;
}

void Reporter::done(const ordered_json& details, const std::string& text) {
  const std::scoped_lock lock(mutex_);
  clear_bar();
  if (style_ == Style::json) {
    ordered_json object{{"event", "done"}};
    object.update(details);
    write_json(object);
  } else if (style_ == Style::text) {
    fmt::print(stderr, "{}\n", text);
  }
}

void Reporter::error(const std::string& message) {
  const std::scoped_lock lock(mutex_);
  clear_bar();
  const std::string line = one_line(message);
  if (style_ == Style::json) write_json({{"event", "error"}, {"message", line}});
  if (style_ != Style::json || json_output_ != stderr) fmt::print(stderr, "flashvsr: {}\n", line);
}

}  // namespace flashvsr::cli
