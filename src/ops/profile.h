// Counts and times the work that goes through Operations, by network and by operation.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace flashvsr::ops {

class Operations;

// Off by default: then it costs a branch per operation. While on, every operation is followed by synchronize(), so
// that times belong to the operation that caused them.
class Profile {
 public:
  struct Entry {
    std::int64_t calls = 0;
    double seconds = 0;
    // Multiply-adds counted twice; what the operation has to do after exact merging, not what a back end wastes.
    double flops = 0;
  };
  // (part, operation), e.g. ("decoder", "conv2d").
  using Entries = std::map<std::pair<std::string, std::string>, Entry>;

  bool enabled = false;
  // The network at work; models and the stream set it through ProfilePart.
  std::string part = "other";

  const Entries& entries() const { return entries_; }
  void clear() { entries_.clear(); }
  void add(const char* operation, double flops, double seconds);

 private:
  Entries entries_;
};

// Names the part for as long as it lives.
class ProfilePart {
 public:
  ProfilePart(Operations& operations, std::string part);
  ~ProfilePart();
  ProfilePart(const ProfilePart&) = delete;
  ProfilePart& operator=(const ProfilePart&) = delete;

 private:
  Operations& operations_;
  std::string previous_;
};

}  // namespace flashvsr::ops
