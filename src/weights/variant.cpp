#include "weights/model_files.h"

namespace flashvsr::weights {

std::string to_string(Variant variant) { return variant == Variant::v1 ? "v1" : "v1.1"; }

std::optional<Variant> parse_variant(std::string_view text) {
  if (text == "v1") return Variant::v1;
  if (text == "v1.1") return Variant::v1_1;
  return std::nullopt;
}

}  // namespace flashvsr::weights
