#include "ops/profile.h"

#include "ops/operations.h"

namespace flashvsr::ops {

void Profile::add(const char* operation, double flops, double seconds) {
  Entry& entry = entries_[{part, operation}];
  ++entry.calls;
  entry.seconds += seconds;
  entry.flops += flops;
}

ProfilePart::ProfilePart(Operations& operations, std::string part)
    : operations_(operations), previous_(std::exchange(operations.profile().part, std::move(part))) {}

ProfilePart::~ProfilePart() { operations_.profile().part = previous_; }

}  // namespace flashvsr::ops
