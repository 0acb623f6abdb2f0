// The configuration as JSON: config.json of a folder, metadata of a packed file.
#include "weights/bytes.h"
#include "weights/model_files.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace flashvsr::weights {
namespace {

using nlohmann::json;

constexpr std::int64_t kLargestSize = std::int64_t{1} << 24;

// Takes values out of one JSON object; errors name the origin and the key.
class Reader {
 public:
  Reader(const json& object, const std::string& origin) : object_(object), origin_(origin) {}

  void integer(const char* key, std::int64_t low, std::int64_t high, std::int64_t& value) const {
    if (const json* const found = find(key)) value = integer_of(*found, key, low, high);
  }

  void positive(const char* key, double high, double& value) const {
    const json* const found = find(key);
    if (!found) return;
    if (!found->is_number() || !(found->get<double>() > 0) || found->get<double>() > high) {
      wrong(key, *found, fmt::format("a number above 0 and up to {}", high));
    }
    value = found->get<double>();
  }

  void text(const char* key, std::size_t longest, std::string& value) const {
    const json* const found = find(key);
    if (!found) return;
    const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
    if (!found->is_string() || found->get_ref<const std::string&>().size() > longest ||
        std::any_of(found->get_ref<const std::string&>().begin(), found->get_ref<const std::string&>().end(),
                    is_control)) {
      wrong(key, *found, fmt::format("one line of at most {} bytes", longest));
    }
    value = found->get<std::string>();
  }

  void choice(const char* key, std::initializer_list<const char*> choices, std::string& value) const {
    const json* const found = find(key);
    if (!found) return;
    if (std::none_of(choices.begin(), choices.end(), [&](const char* choice) { return *found == choice; })) {
      wrong(key, *found, fmt::format("one of {}", fmt::join(choices, ", ")));
    }
    value = found->get<std::string>();
  }

  template <std::size_t count>
  void integers(const char* key, std::array<std::int64_t, count>& values) const {
    const json* const found = find(key);
    if (!found) return;
    if (!found->is_array() || found->size() != count) wrong(key, *found, fmt::format("a list of {} numbers", count));
    for (std::size_t i = 0; i < count; ++i) values[i] = integer_of((*found)[i], key, 0, kLargestSize);
  }

  void variant(Variant& value) const {
    const json* const found = find("variant");
    if (!found) return;
    const std::optional<Variant> known =
        found->is_string() ? parse_variant(found->get_ref<const std::string&>()) : std::nullopt;
    if (!known) {
      fail(ErrorCode::unsupported, "{}: the variant {} is not known to this version; known are \"v1\" and \"v1.1\"",
           origin_, shown(*found));
    }
    value = *known;
  }

 private:
  const json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }

  static std::string shown(const json& value) {
    if (value.is_structured()) return value.is_array() ? "a list" : "an object";
    return value.is_string() ? quote(value.get_ref<const std::string&>()) : value.dump();
  }

  [[noreturn]] void wrong(const char* key, const json& value, const std::string& expected) const {
    fail(ErrorCode::format, "{}: \"{}\" must be {}, not {}", origin_, key, expected, shown(value));
  }

  std::int64_t integer_of(const json& value, const char* key, std::int64_t low, std::int64_t high) const {
    const bool fits =
        value.is_number_integer() &&
        (!value.is_number_unsigned() || value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX));
    if (!fits || value.get<std::int64_t>() < low || value.get<std::int64_t>() > high) {
      wrong(key, value, fmt::format("a whole number from {} to {}", low, high));
    }
    return value.get<std::int64_t>();
  }

  const json& object_;
  const std::string& origin_;
};

}  // namespace

json to_json(const ModelConfig& config) {
  return {{"name", config.name},
          {"variant", to_string(config.variant)},
          {"dim", config.dim},
          {"num_heads", config.heads},
          {"ffn_dim", config.ffn_dim},
          {"num_layers", config.layers},
          {"text_dim", config.text_dim},
          {"text_tokens", config.text_tokens},
          {"freq_dim", config.freq_dim},
          {"lq_hidden", config.lq_hidden},
          {"tc_channels", config.tc_channels},
          {"vae_dim", config.vae_dim},
          {"scale", config.scale},
          {"sparse_ratio", config.sparse_ratio},
          {"local_range", config.local_range},
          {"kv_ratio", config.kv_ratio},
          {"local_window", config.local_window},
          {"color_fix", config.color_fix}};
}

void update_from_json(ModelConfig& config, const json& object, const std::string& origin) {
  if (!object.is_object()) fail(ErrorCode::format, "{}: the configuration is not a JSON object", origin);
  const Reader read(object, origin);
  read.text("name", 200, config.name);
  read.variant(config.variant);
  read.integer("dim", 1, kLargestSize, config.dim);
  read.integer("num_heads", 1, kLargestSize, config.heads);
  read.integer("ffn_dim", 1, kLargestSize, config.ffn_dim);
  read.integer("num_layers", 1, kLargestSize, config.layers);
  read.integer("text_dim", 1, kLargestSize, config.text_dim);
  read.integer("text_tokens", 1, kLargestSize, config.text_tokens);
  read.integer("freq_dim", 1, kLargestSize, config.freq_dim);
  read.integers("lq_hidden", config.lq_hidden);
  read.integers("tc_channels", config.tc_channels);
  read.integer("vae_dim", 0, kLargestSize, config.vae_dim);
  read.integer("scale", 1, 16, config.scale);
  read.positive("sparse_ratio", 1e6, config.sparse_ratio);
  read.integer("local_range", 1, 1024, config.local_range);
  read.integer("kv_ratio", 1, 1024, config.kv_ratio);
  read.choice("local_window", {"truncated", "preserved"}, config.local_window);
  read.choice("color_fix", {"adain", "wavelet", "none"}, config.color_fix);
}

}  // namespace flashvsr::weights
