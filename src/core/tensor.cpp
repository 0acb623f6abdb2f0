#include "core/tensor.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace flashvsr {
namespace {

class HostStorage final : public Storage {
 public:
  explicit HostStorage(std::size_t bytes) : Storage(::operator new (bytes, std::align_val_t{64}), bytes) {}
  ~HostStorage() override { ::operator delete (data(), std::align_val_t{64}); }
};

}  // namespace

Shape::Shape(std::span<const std::int64_t> dims) : rank_(dims.size()) {
  require(dims.size() <= kMaxRank, "a shape has at most {} dimensions, not {}", kMaxRank, dims.size());
  std::copy(dims.begin(), dims.end(), dims_.begin());
}

std::int64_t Shape::operator[](std::ptrdiff_t index) const {
  const auto rank = static_cast<std::ptrdiff_t>(rank_);
  const std::ptrdiff_t position = index < 0 ? index + rank : index;
  require(position >= 0 && position < rank, "dimension {} of a shape of rank {}", index, rank);
  return dims_[static_cast<std::size_t>(position)];
}

std::int64_t Shape::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t dim : dims()) product *= dim;
  return product;
}

std::string Shape::to_string() const { return fmt::format("[{}]", fmt::join(dims(), ", ")); }

bool Shape::operator==(const Shape& other) const {
  return std::equal(dims().begin(), dims().end(), other.dims().begin(), other.dims().end());
}

Tensor::Tensor(Shape shape, DType dtype, std::shared_ptr<Storage> storage, std::size_t byte_offset)
    : shape_(shape), dtype_(dtype), storage_(std::move(storage)), byte_offset_(byte_offset) {
  require(storage_ && byte_offset_ + bytes() <= storage_->bytes(), "a tensor {} exceeds its storage",
          shape_.to_string());
}

Tensor Tensor::reshaped(Shape shape) const {
  require(shape.elements() == elements(), "cannot view {} as {}", shape_.to_string(), shape.to_string());
  return Tensor(shape, dtype_, storage_, byte_offset_);
}

Tensor Tensor::sliced(std::int64_t begin, std::int64_t end) const {
  require(shape_.rank() > 0 && 0 <= begin && begin <= end && end <= shape_[0], "cannot slice {} to {}..{}",
          shape_.to_string(), begin, end);
  std::array<std::int64_t, Shape::kMaxRank> dims{};
  std::copy(shape_.dims().begin(), shape_.dims().end(), dims.begin());
  const std::int64_t stride = shape_[0] == 0 ? 0 : elements() / shape_[0];
  dims[0] = end - begin;
  const auto offset = static_cast<std::size_t>(begin * stride) * size_of(dtype_);
  return Tensor(Shape(std::span<const std::int64_t>(dims.data(), shape_.rank())), dtype_, storage_,
                byte_offset_ + offset);
}

Tensor allocate_host(const Shape& shape, DType dtype) {
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * size_of(dtype);
  return Tensor(shape, dtype, std::make_shared<HostStorage>(std::max<std::size_t>(bytes, 1)));
}

}  // namespace flashvsr
