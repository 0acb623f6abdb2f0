// Matrix products of the CUDA back end through cuBLASLt.
#pragma once

#include "ops/cuda/device.h"
#include "ops/cuda/kernels/activation.h"

#include <cublasLt.h>

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

namespace flashvsr::ops {

// result[rows, out] = activation(x[rows, in] weight[out, in]^T + residual + bias), sums in f32; all row-major and
// dense.
struct CudaProduct {
  DType type = DType::bf16;  // of x and the weight: f32 (true f32) or bf16
  const void* x = nullptr;
  const void* weight = nullptr;
  std::int64_t rows = 0, in = 0, out = 0;
  // Of the result, the residual and the bias: f32, or bf16 with bf16 operands.
  DType output = DType::bf16;
  const void* bias = nullptr;      // [out], or none
  const void* residual = nullptr;  // [rows, out], or none
  cuda::Activation activation = cuda::Activation::none;
  void* result = nullptr;
};

// Weights of linear layers as products take them: several layers of one input as one, or one layer times a gate.
struct LinearOperands {
  Tensor weight;  // [sum of out, in] in the compute type
  Tensor bias;    // [sum of out], or none
  Tensor gate;    // kept, as its address is part of the key
};

// The handle, its work space, and a plan for every kind of product: descriptors and the algorithm, chosen once.
struct CudaLinear {
  // Throws Error(device).
  explicit CudaLinear(cuda::Device& device);
  ~CudaLinear();
  CudaLinear(const CudaLinear&) = delete;
  CudaLinear& operator=(const CudaLinear&) = delete;

  // Whether rows and addresses are aligned as cuBLASLt's fast kernels need them.
  static bool suits(const CudaProduct& product);
  // Whether the activation is one that cuBLASLt has for the type of the result.
  static bool fuses(const CudaProduct& product);
  // Issues a product that suits. Returns false if cuBLASLt has no algorithm for it: then nothing
  // was issued.
  bool multiply(const CudaProduct& product);

 private:
  struct Plan;
  using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, DType, DType, cuda::Activation, bool, bool>;

  std::shared_ptr<Plan> make_plan(const CudaProduct& product);
  bool choose_algorithm(Plan& plan, std::int64_t results);
  cublasStatus_t issue(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm, const CudaProduct& product);

  cuda::Device& device_;
  cublasLtHandle_t handle_ = nullptr;
  Tensor workspace_;
  std::map<Key, std::shared_ptr<Plan>> plans_;  // empty: cuBLASLt does not do it
};

}  // namespace flashvsr::ops
