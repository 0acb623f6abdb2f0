// Our own vectorised CPU code: attention, norms, frames and colour.
//
// Matrix products and convolutions are those of the reference; OneDnnOperations derives from this class and replaces
// them. The kernels (src/ops/cpu/kernels) are compiled for several instruction sets, and the best that the processor
// has is chosen when the back end is made, so the program itself starts on any processor.
#pragma once

#include "ops/cpu/reference_operations.h"
#include "ops/cpu/vector_isa.h"

#include <string>

namespace flashvsr::ops {

namespace kernels {
struct AttentionKernels;
struct KernelTable;
}  // namespace kernels

class VectorOperations : public ReferenceOperations {
 public:
  explicit VectorOperations(const CpuSettings& settings) : VectorOperations(settings, chosen_isa()) {}
  // `isa` must be available.
  VectorOperations(const CpuSettings& settings, Isa isa);

  std::string name() const override { return "cpu-vector"; }
  Isa isa() const { return isa_; }

 protected:
  Tensor do_sparse_attention(const Tensor& q, const KeyValueView& keys, const BlockMask& mask,
                             std::int64_t heads) override;
  Tensor do_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t heads) override;

 private:
  const kernels::AttentionKernels& attention_kernels() const;

  Isa isa_;
  const kernels::KernelTable& table_;
};

}  // namespace flashvsr::ops
