#include "weights/safetensors_header.h"

#include "weights/bytes.h"

#include <nlohmann/json.hpp>

#include <set>

namespace flashvsr::weights {
namespace {

// The largest published file has 825 tensors; bounds the memory that a hostile header can claim.
constexpr std::size_t kMostTensors = 65536;
constexpr std::size_t kMostDimensions = 64;
constexpr std::size_t kMostMetadata = 4096;

// Receives the parser's events, so that no document tree is ever built. Returning false stops the parser.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(SafetensorsHeader& header) : header_(header) {}

  const std::string& problem() const { return problem_; }

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::outside: place_ = Place::top; return true;
      case Place::top:
        if (!named_) return stop("has a value without a name");
        named_ = false;
        if (key_ == "__metadata__") {
          place_ = Place::metadata;
          return true;
        }
        place_ = Place::entry;
        seen_type_ = seen_shape_ = seen_offsets_ = false;
        header_.entries.push_back({.name = key_, .type = {}, .shape = {}});
        return true;
      default: return stop(where() + " nests too deep");
    }
  }

  bool key(string_t& name) override {
    named_ = true;
    key_ = name;
    if (place_ == Place::top) {
      if (header_.entries.size() >= kMostTensors) return stop(fmt::format("has more than {} tensors", kMostTensors));
      if (!names_.insert(name).second) return stop("has " + quote(name) + " twice");
    } else if (place_ == Place::metadata) {
      if (header_.metadata.size() >= kMostMetadata) {
        return stop(fmt::format("has more than {} metadata entries", kMostMetadata));
      }
      if (header_.metadata.contains(name)) return stop("has the metadata " + quote(name) + " twice");
    } else if (place_ == Place::entry) {
      bool* const seen = name == "dtype"          ? &seen_type_
                         : name == "shape"        ? &seen_shape_
                         : name == "data_offsets" ? &seen_offsets_
                                                  : nullptr;
      if (!seen) return stop(where() + " has the unknown property " + quote(name));
      if (*seen) return stop(where() + " has " + name + " twice");
      *seen = true;
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::entry && !(seen_type_ && seen_shape_ && seen_offsets_)) {
      return stop(where() + " needs dtype, shape and data_offsets");
    }
    place_ = place_ == Place::top ? Place::outside : Place::top;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::entry || key_ == "dtype") return stop(where() + " has a list where none belongs");
    place_ = key_ == "shape" ? Place::shape : Place::offsets;
    numbers_ = 0;
    return true;
  }

  bool end_array() override {
    if (place_ == Place::offsets && numbers_ != 2) return stop(where() + " needs two data_offsets");
    place_ = Place::entry;
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) {
      header_.metadata.emplace(key_, value);
      return true;
    }
    if (place_ != Place::entry || key_ != "dtype") return stop(where() + " has text where none belongs");
    header_.entries.back().type = value;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    SafetensorsEntry* const entry = header_.entries.empty() ? nullptr : &header_.entries.back();
    if (place_ == Place::shape) {
      if (++numbers_ > kMostDimensions) return stop(where() + " has too many dimensions");
      entry->shape.push_back(value);
      return true;
    }
    if (place_ == Place::offsets) {
      if (++numbers_ > 2) return stop(where() + " needs two data_offsets");
      (numbers_ == 1 ? entry->begin : entry->end) = value;
      return true;
    }
    return stop(where() + " has a number where none belongs");
  }

  bool number_integer(number_integer_t value) override {
    return stop(fmt::format("{} has the negative number {}", where(), value));
  }
  bool number_float(number_float_t, const string_t& text) override {
    return stop(where() + " has " + quote(text) + ", which is not a whole number of 64 bits");
  }
  bool null() override { return stop(where() + " has null where none belongs"); }
  bool boolean(bool) override { return stop(where() + " has true or false where none belongs"); }
  bool binary(binary_t&) override { return stop("has binary data"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return stop(fmt::format("is not valid JSON at byte {}", position));
  }

 private:
  enum class Place { outside, top, metadata, entry, shape, offsets };

  bool stop(std::string problem) {
    problem_ = std::move(problem);
    return false;
  }

  std::string where() const {
    switch (place_) {
      case Place::outside: return "the header";
      case Place::metadata: return "__metadata__";
      case Place::top: return quote(key_);
      default: return quote(header_.entries.back().name);
    }
  }

  SafetensorsHeader& header_;
  std::set<std::string, std::less<>> names_;
  Place place_ = Place::outside;
  std::string key_, problem_;
  bool named_ = false, seen_type_ = false, seen_shape_ = false, seen_offsets_ = false;
  std::size_t numbers_ = 0;
};

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, const std::string& origin) {
  SafetensorsHeader header;
  HeaderReader reader(header);
  if (!nlohmann::json::sax_parse(json.begin(), json.end(), &reader)) {
    fail(ErrorCode::format, "{}: the safetensors header is damaged: {}", origin, reader.problem());
  }
  return header;
}

}  // namespace flashvsr::weights
