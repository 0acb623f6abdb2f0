// The order in which people number files.
#pragma once

#include <string_view>

namespace flashvsr::media {

// Numbers inside names compare by value: "frame9" before "frame10". A strict weak order; names that differ only in
// leading zeros compare as text.
bool natural_less(std::string_view left, std::string_view right);

}  // namespace flashvsr::media
