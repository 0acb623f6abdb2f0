#include "ops/cpu/onednn_operations.h"

#include "ops/cpu/onednn_engine.h"

namespace flashvsr::ops {

OneDnnOperations::OneDnnOperations(const CpuSettings& settings)
    : VectorOperations(settings), engine_(std::make_unique<onednn::Engine>()) {
  const bool bf16 = settings.compute == DType::bf16 && engine_->multiplies_bf16();
  product_type_ = bf16 ? DType::bf16 : DType::f32;
}

OneDnnOperations::~OneDnnOperations() = default;

}  // namespace flashvsr::ops
