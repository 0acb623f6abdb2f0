// The fast CPU back end: oneDNN's matrix products and convolutions over our own vectorised code for the rest.
//
// bf16 is multiplied as such where oneDNN can on this processor; elsewhere bf16 tensors are widened, multiplied in f32
// and the results rounded. Sums are f32 in either case.
#pragma once

#include "ops/cpu/vector_operations.h"

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace flashvsr::ops {

namespace onednn {
class Engine;
struct ConvolutionShape;
struct GatheredFrame;
}  // namespace onednn

class OneDnnOperations : public VectorOperations {
 public:
  explicit OneDnnOperations(const CpuSettings& settings);
  ~OneDnnOperations() override;

  std::string name() const override { return "cpu"; }
  // The type that products are computed in: bf16, or f32 where the compute type is f32 or oneDNN cannot multiply bf16.
  DType product_type() const { return product_type_; }

 protected:
  Tensor do_linear(const Tensor& x, const LinearWeights& weights, const LinearOptions& options) override;
  Tensor do_linear_concatenated(const Tensor& x, std::span<const LinearWeights> weights) override;
  Tensor do_conv2d(const Tensor& x, const ConvWeights& weights, const Conv2dOptions& options) override;
  Tensor do_conv3d(const Tensor& front, const Tensor& x, const ConvWeights& weights,
                   const Conv3dOptions& options) override;
  Tensor do_upsample_conv2d(const Tensor& x, const ConvWeights& conv, Activation activation) override;
  Tensor do_upsample_grow_conv2d(const Tensor& x, const Parameter& grow, const ConvWeights& conv, std::int64_t frame,
                                 Activation activation) override;

 private:
  // Gives weights in the layout that a primitive wants (a dnnl::memory::desc).
  using WeightSource = std::function<const void*(const void* wanted)>;
  struct Multiplication;

  // x, or a copy in the type of products.
  Tensor product_operand(const Tensor& x) { return x.dtype() == product_type_ ? x : do_cast(x, product_type_); }
  // The type that a product whose result is to be `type` writes.
  DType written_type(DType type) const { return product_type_ == DType::f32 ? DType::f32 : type; }
  const float* bias_values(const Parameter& bias) { return bias ? f32_values(bias).data() : nullptr; }
  // Whether a weight's values need neither conversion nor rounding before they are multiplied.
  bool multiplies_as_stored(const Parameter& weight) const {
    return weight.dtype() == product_type_ && product_type_ == compute_type();
  }
  // Whether a weight that lies as [out, in] is multiplied as it lies.
  bool multiplies_in_place(const Parameter& weight, std::int64_t rows) const;
  void multiply(const Multiplication& multiplication);
  WeightSource matmul_weights(std::span<const LinearWeights> weights);
  Tensor pointwise(const Tensor& x, const ConvWeights& weights, const Tensor& residual, Activation activation,
                   DType output);

  WeightSource convolution_weights(const Parameter& weight);
  WeightSource merged_weights(const Parameter& conv, const Parameter& grow, std::int64_t frame, std::int64_t phase);
  void convolve(const onednn::ConvolutionShape& shape, const WeightSource& weights, const float* bias, const Tensor& x,
                const Tensor& residual, const Tensor& result);
  // One convolution per frame of the result; every gathered frame has the frames of the kernel. `shape` is that of one
  // frame, without the height and the rows of padding.
  void convolve_gathered(const onednn::ConvolutionShape& shape, const WeightSource& weights, const float* bias,
                         std::span<const onednn::GatheredFrame> frames, std::int64_t pad_top, const Tensor& residual,
                         const Tensor& result);
  Tensor upsample_merged(const Tensor& x, const Parameter& grow, const ConvWeights& conv, std::int64_t frame,
                         Activation activation);

  DType product_type_;
  std::unique_ptr<onednn::Engine> engine_;
};

}  // namespace flashvsr::ops
