#include "ops/profile.h"

#include "ops/operations.h"

namespace flashvsr::ops {
namespace {

// Beyond so many outstanding times, the older half is read: the device has long passed those.
constexpr std::size_t kMostOutstanding = 8192;

}  // namespace

void Profile::clear() {
  outstanding_.clear();
  entries_.clear();
}

Profile::Entry& Profile::count(const char* operation, const Work& work) {
  Entry& entry = entries_[{part, operation}];
  ++entry.calls;
  entry.flops += work.flops;
  entry.bytes += work.bytes;
  return entry;
}

void Profile::add(const char* operation, const Work& work, double seconds) {
  count(operation, work).seconds += seconds;
}

void Profile::add(const char* operation, const Work& work, std::unique_ptr<Mark> begin, std::unique_ptr<Mark> end) {
  outstanding_.push_back({&count(operation, work), std::move(begin), std::move(end)});
  if (outstanding_.size() > kMostOutstanding) settle(kMostOutstanding / 2);
}

void Profile::settle(std::size_t most) {
  for (; outstanding_.size() > most; outstanding_.pop_front()) {
    const Outstanding& oldest = outstanding_.front();
    oldest.entry->seconds += oldest.end->seconds_since(*oldest.begin);
  }
}

ProfilePart::ProfilePart(Operations& operations, std::string part)
    : operations_(operations), previous_(std::exchange(operations.profile().part, std::move(part))) {}

ProfilePart::~ProfilePart() { operations_.profile().part = previous_; }

}  // namespace flashvsr::ops
