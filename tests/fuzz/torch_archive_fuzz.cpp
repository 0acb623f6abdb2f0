// Any bytes as an archive of torch.save: an Error or tensors that lie in memory.
#include "fuzz_support.h"
#include "weights/torch_archive.h"

using namespace flashvsr;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = std::make_shared<weights::InputStorage>(data, size);
  try {
    const weights::TorchArchive archive = weights::parse_torch_archive(file, "input");
    weights::check(archive.tensors, file);
    if (archive.tensor) weights::check({{"", archive.tensor}}, file);
  } catch (const Error& error) {
    if (std::strchr(error.what(), '\n')) std::abort();
  }
  return 0;
}
