// What a back end derives from parameters (transposed, converted, folded, merged, reordered copies), made once.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <typeindex>
#include <utility>
#include <vector>

namespace flashvsr::ops {

// Entries are kept by their type and a key of numbers: parameter ids, options, addresses of gates. An entry whose key
// holds an address must own the tensor behind it, so that the address is not used again for another.
class PreparedWeights {
 public:
  // The entry of type T under `key`; the first time, make() gives it. The reference stays valid.
  template <typename T, typename Make>
  const T& get(std::vector<std::uint64_t> key, const Make& make) {
    auto position = entries_.try_emplace({std::type_index(typeid(T)), std::move(key)}).first;
    if (!position->second) position->second = std::make_shared<T>(make());
    return *static_cast<const T*>(position->second.get());
  }

 private:
  std::map<std::pair<std::type_index, std::vector<std::uint64_t>>, std::shared_ptr<void>> entries_;
};

}  // namespace flashvsr::ops
