#include "weights/bytes.h"

#include <algorithm>

namespace flashvsr::weights {

std::string quote(std::string_view text) {
  constexpr std::size_t kLongest = 120;
  std::string result = "\"";
  for (const char c : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      result += fmt::format("\\x{:02x}", byte);
    } else {
      if (c == '"' || c == '\\') result += '\\';
      result += c;
    }
  }
  return result + (text.size() > kLongest ? "...\"" : "\"");
}

void refuse_lookalikes(Bytes file, const std::string& origin) {
  const std::string_view text = as_text(file.first(std::min<std::size_t>(file.size(), 64)));
  if (text.starts_with("version https://git-lfs.github.com/")) {
    fail(ErrorCode::format, "{}: is a Git LFS pointer, not the file itself; fetch it with git lfs pull", origin);
  }
  if (text.starts_with("<!DOCTYPE") || text.starts_with("<!doctype") || text.starts_with("<html")) {
    fail(ErrorCode::format, "{}: is a web page, not a weight file; download the file itself", origin);
  }
}

}  // namespace flashvsr::weights
