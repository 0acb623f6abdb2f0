// A tensor whose values are on their way.
#pragma once

#include "core/tensor.h"

#include <memory>
#include <utility>

namespace flashvsr::ops {

// What a device back end waits on.
class Arrival {
 public:
  virtual ~Arrival() = default;
  virtual bool arrived() = 0;  // does not wait
  virtual void wait() = 0;     // throws Error(device)
};

// A tensor on its way to the host; or one that stays in its back end's memory, with what computes it (arrival()).
// Copies share the tensor. Not thread-safe.
class HostCopy {
 public:
  HostCopy() = default;
  // No arrival: the values are there.
  explicit HostCopy(Tensor host, std::shared_ptr<Arrival> arrival = nullptr)
      : host_(std::move(host)), arrival_(std::move(arrival)) {}

  bool arrived() const { return !arrival_ || arrival_->arrived(); }
  // The tensor, once its values are there.
  const Tensor& wait() const {
    if (arrival_) arrival_->wait();
    return host_;
  }

 private:
  Tensor host_;
  std::shared_ptr<Arrival> arrival_;
};

}  // namespace flashvsr::ops
