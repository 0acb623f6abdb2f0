// Python pickles as data. Nothing is executed: a global is a name, a call is a record of what would be called.
#pragma once

#include "weights/bytes.h"

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace flashvsr::weights {

enum class PickleKind : std::uint8_t {
  none,
  boolean,     // integer: 0 or 1
  integer,     // integer
  real,        // real
  text,        // text
  tuple,       // items
  list,        // items
  dictionary,  // items: key, value, key, value ... in the order of insertion
  global,      // text: module, name: qualified name
  persistent,  // items: the identifier
  call,        // items: callable, tuple of arguments
};

// Values refer to each other by index, so a deeply nested pickle costs no recursion, not even to be destroyed.
using PickleIndex = std::uint32_t;

struct PickleValue {
  PickleKind kind = PickleKind::none;
  std::int64_t integer = 0;
  double real = 0;
  std::string_view text, name;  // in the pickle's bytes
  std::vector<PickleIndex> items;
};

// Values may contain themselves (a list appended to itself): readers must bound their depth.
struct PickleGraph {
  std::vector<PickleValue> values;
  PickleIndex root = 0;

  const PickleValue& operator[](PickleIndex index) const { return values[index]; }
};

// Reads protocols 2 to 5, the opcodes that state dicts need. `allowed` judges every global; a forbidden one, any other
// opcode, and everything malformed is an Error(format) that names `origin`. The graph refers to the bytes of `pickle`.
PickleGraph parse_pickle(Bytes pickle, const std::string& origin,
                         const std::function<bool(std::string_view module, std::string_view name)>& allowed);

}  // namespace flashvsr::weights
