#include "cli/bench_floor.h"

#include <algorithm>
#include <string_view>

namespace flashvsr::cli {
namespace {

// The best that was measured on an H200 in short bursts, in bf16, for the shapes of the published model, by whatever
// code: docs/SPEED.md says where each comes from. Under sustained load the card's power does not allow all of them.
constexpr double kLinear = 762e12;           // the ten of a layer, each at its own rate
constexpr double kSparseAttention = 693e12;  // on kept blocks
constexpr double kCrossAttention = 453e12;
constexpr double kProjector = 712e12;  // all of it as products
constexpr double kDecoder = 650e12;    // after the exact merges
constexpr double kCopy = 4.28e12;      // bytes read and written a second

double rate_of(const std::string& part, std::string_view operation) {
  if (operation == "sparse_attention") return kSparseAttention;
  if (operation == "attention") return kCrossAttention;
  if (operation.find("conv") != std::string_view::npos) return part == "projector" ? kProjector : kDecoder;
  return kLinear;
}

}  // namespace

bool has_floor(const ops::Operations& operations) {
  const ops::Hardware hardware = operations.hardware();
  // The H100 has as many multiprocessors, but less memory and slower.
  return operations.compute_type() == DType::bf16 && hardware.compute_capability == 90 &&
         hardware.multiprocessors == 132 && hardware.memory > std::size_t{120} << 30;
}

double floor_seconds(const std::string& part, const std::string& operation, const ops::Work& work) {
  return std::max(work.flops / rate_of(part, operation), work.bytes / kCopy);
}

}  // namespace flashvsr::cli
