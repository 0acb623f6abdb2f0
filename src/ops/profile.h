// Counts and times the work that goes through Operations, by network and by operation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace flashvsr::ops {

class Operations;

// The part of copies that run beside computing (Operations::start_copies): their time is no part of that of all else.
inline constexpr const char* kCopiesPart = "copies";

// What an operation has to do, whatever a back end saves or wastes.
struct Work {
  // Multiply-adds counted twice, after exact merging.
  double flops = 0;
  // Read and written if every input is read once.
  double bytes = 0;
};

// A place in the order of what was issued to a device.
class Mark {
 public:
  virtual ~Mark() = default;
  // Of the device, from `earlier` to here. Waits until the device has come here.
  virtual double seconds_since(const Mark& earlier) const = 0;
};

// Off by default: then it costs a branch per operation. Back ends that work at once are timed by the clock, those that
// work behind the host by marks around each operation (Operations::mark), read at the end, so that the device never
// waits for the host to measure.
class Profile {
 public:
  struct Entry {
    std::int64_t calls = 0;
    double seconds = 0;
    double flops = 0;
    double bytes = 0;
  };
  // (part, operation), e.g. ("decoder", "conv2d").
  using Entries = std::map<std::pair<std::string, std::string>, Entry>;

  bool enabled = false;
  // The network at work; models and the stream set it through ProfilePart.
  std::string part = "other";

  // Complete after Operations::finish_profile().
  const Entries& entries() const { return entries_; }
  void add(const char* operation, const Work& work, double seconds);
  // The time is read later.
  void add(const char* operation, const Work& work, std::unique_ptr<Mark> begin, std::unique_ptr<Mark> end);

 private:
  friend class Operations;

  struct Outstanding {
    Entry* entry;
    std::unique_ptr<Mark> begin, end;
  };

  void clear();
  Entry& count(const char* operation, const Work& work);
  // Reads all outstanding times but the newest `most`; waits for the device.
  void settle(std::size_t most);

  Entries entries_;
  std::deque<Outstanding> outstanding_;
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
