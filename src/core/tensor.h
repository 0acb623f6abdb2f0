// Dense tensors: a shape, an element type, and a shared piece of storage that some back end owns.
#pragma once

#include "core/dtype.h"
#include "core/error.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

namespace flashvsr {

// Up to six dimensions, outermost first. A default Shape is that of a scalar (one element).
class Shape {
 public:
  static constexpr std::size_t kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const std::int64_t> dims);

  std::size_t rank() const { return rank_; }
  // Negative indices count from the innermost dimension: shape[-1] is the channel count.
  std::int64_t operator[](std::ptrdiff_t index) const;
  std::int64_t elements() const;
  std::span<const std::int64_t> dims() const { return {dims_.data(), rank_}; }
  // "[2, 8, 8]"
  std::string to_string() const;
  bool operator==(const Shape& other) const;

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  std::size_t rank_ = 0;
};

// Memory of one back end. Derived classes release it; LibTorch's derives to keep a graph node beside the data.
class Storage {
 public:
  Storage(void* data, std::size_t bytes) : data_(data), bytes_(bytes) {}
  virtual ~Storage() = default;
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_;
  std::size_t bytes_;
};

// A value: copies share storage, and operations never write to a tensor that they were given (those that do are
// declared as state changing in ops/operations.h). Always contiguous, innermost dimension last. For a device back end
// data() is a device pointer: only that back end may follow it.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Shape shape, DType dtype, std::shared_ptr<Storage> storage, std::size_t byte_offset = 0);

  explicit operator bool() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  std::int64_t dim(std::ptrdiff_t index) const { return shape_[index]; }
  std::int64_t elements() const { return shape_.elements(); }
  DType dtype() const { return dtype_; }
  std::size_t bytes() const { return static_cast<std::size_t>(elements()) * size_of(dtype_); }
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  std::size_t byte_offset() const { return byte_offset_; }

  const void* raw() const { return static_cast<const std::byte*>(storage_->data()) + byte_offset_; }
  // For the back end that has just allocated the tensor, or in operations declared as state changing.
  void* mutable_raw() const { return static_cast<std::byte*>(storage_->data()) + byte_offset_; }
  template <typename T>
  const T* data() const {
    return static_cast<const T*>(raw());
  }
  template <typename T>
  T* mutable_data() const {
    return static_cast<T*>(mutable_raw());
  }

  // The same elements under another shape of as many elements.
  Tensor reshaped(Shape shape) const;
  // Entries [begin, end) of the outermost dimension, sharing storage.
  Tensor sliced(std::int64_t begin, std::int64_t end) const;

 private:
  Shape shape_;
  DType dtype_ = DType::f32;
  std::shared_ptr<Storage> storage_;
  std::size_t byte_offset_ = 0;
};

// Memory of the C++ heap, 64-byte aligned, for host tensors outside of any back end.
Tensor allocate_host(const Shape& shape, DType dtype);

}  // namespace flashvsr
