// Any bytes as a safetensors file: an Error or tensors that lie in memory.
#include "fuzz_support.h"
#include "weights/safetensors.h"

using namespace flashvsr;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = std::make_shared<weights::InputStorage>(data, size);
  try {
    weights::check(weights::parse_safetensors(file, "input").tensors, file);
  } catch (const Error& error) {
    if (std::strchr(error.what(), '\n')) std::abort();
  }
  return 0;
}
