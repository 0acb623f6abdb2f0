#include "ops/cuda/linear.h"

#include <algorithm>
#include <span>

namespace flashvsr::ops {
namespace {

// What NVIDIA recommends for Hopper and newer, and for what came before.
constexpr std::int64_t kHopperWorkspace = std::int64_t{64} << 20, kWorkspace = std::int64_t{32} << 20;
constexpr std::uint32_t kAlignment = 16;  // bytes of rows and addresses
// What is proposed first is the fastest in short bursts. Under steady load power is what limits, and of the proposals
// for Hopper the one with this tile takes the least: it reads the fewest bytes a multiplication.
constexpr int kProposals = 8;
constexpr std::uint32_t kEfficientTile = CUBLASLT_MATMUL_TILE_256x128;
constexpr std::int64_t kEfficientTileResults = std::int64_t{256} * 128;

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(ErrorCode::device, "cuBLASLt: {}: {}", what, cublasLtGetStatusString(status));
}

cudaDataType_t data_type(DType type) { return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

std::uint32_t tile_of(const cublasLtMatmulAlgo_t& algorithm) {
  std::uint32_t tile = CUBLASLT_MATMUL_TILE_UNDEFINED;
  cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_TILE_ID, &tile, sizeof(tile), nullptr);
  return tile;
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % kAlignment == 0; }

struct Preference {
  Preference() { check(cublasLtMatmulPreferenceCreate(&handle), "making a preference"); }
  ~Preference() { cublasLtMatmulPreferenceDestroy(handle); }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;

  template <typename T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    check(cublasLtMatmulPreferenceSetAttribute(handle, attribute, &value, sizeof(value)), "setting a preference");
  }

  cublasLtMatmulPreference_t handle = nullptr;
};

}  // namespace

// Column-major, as cuBLASLt sees it: D [out, rows] = A^T [out, in] B [in, rows] + C, where A is the weight, B is x.
struct CudaLinear::Plan {
  Plan() = default;
  ~Plan() {
    for (const auto layout : {a, b, c}) {
      if (layout) cublasLtMatrixLayoutDestroy(layout);
    }
    if (operation) cublasLtMatmulDescDestroy(operation);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  template <typename T>
  void set(cublasLtMatmulDescAttributes_t attribute, T value) {
    check(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value)), "describing a product");
  }

  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;  // D lies like C
  cublasLtMatmulAlgo_t algorithm{};
};

CudaLinear::CudaLinear(cuda::Device& device)
    : device_(device),
      workspace_(device.allocate_weights({device.architecture() >= 90 ? kHopperWorkspace : kWorkspace}, DType::u8)) {
  check(cublasLtCreate(&handle_), "starting");
}

CudaLinear::~CudaLinear() {
  plans_.clear();
  cublasLtDestroy(handle_);
}

bool CudaLinear::suits(const CudaProduct& product) {
  const std::int64_t in_step = kAlignment / static_cast<std::int64_t>(size_of(product.type));
  const std::int64_t out_step = kAlignment / static_cast<std::int64_t>(size_of(product.output));
  return product.in % in_step == 0 && product.out % out_step == 0 && aligned(product.x) && aligned(product.weight) &&
         aligned(product.bias) && aligned(product.residual) && aligned(product.result);
}

// The GELU of cuBLASLt is the tanh form by an approximate tanh, whose error the rounding to bf16 hides.
bool CudaLinear::fuses(const CudaProduct& product) {
  switch (product.activation) {
    case cuda::Activation::none:
    case cuda::Activation::relu: return true;
    case cuda::Activation::gelu_tanh: return product.output == DType::bf16;
    case cuda::Activation::silu: break;
  }
  return false;
}

std::shared_ptr<CudaLinear::Plan> CudaLinear::make_plan(const CudaProduct& product) {
  const bool relu = product.activation == cuda::Activation::relu,
             gelu = product.activation == cuda::Activation::gelu_tanh;
  auto plan = std::make_shared<Plan>();
  check(cublasLtMatmulDescCreate(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
  plan->set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  plan->set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
  const cublasLtEpilogue_t epilogue = product.bias ? (relu   ? CUBLASLT_EPILOGUE_RELU_BIAS
                                                      : gelu ? CUBLASLT_EPILOGUE_GELU_BIAS
                                                             : CUBLASLT_EPILOGUE_BIAS)
                                                   : (relu   ? CUBLASLT_EPILOGUE_RELU
                                                      : gelu ? CUBLASLT_EPILOGUE_GELU
                                                             : CUBLASLT_EPILOGUE_DEFAULT);
  plan->set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  // Its elements have the type of the result.
  if (product.bias) plan->set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
  const auto in = static_cast<std::uint64_t>(product.in), out = static_cast<std::uint64_t>(product.out);
  const auto rows = static_cast<std::uint64_t>(product.rows);
  check(cublasLtMatrixLayoutCreate(&plan->a, data_type(product.type), in, out, product.in), "describing a weight");
  check(cublasLtMatrixLayoutCreate(&plan->b, data_type(product.type), in, rows, product.in), "describing an input");
  check(cublasLtMatrixLayoutCreate(&plan->c, data_type(product.output), out, rows, product.out), "describing a result");
  if (!choose_algorithm(*plan, product.rows * product.out)) return nullptr;
  return plan;
}

bool CudaLinear::choose_algorithm(Plan& plan, std::int64_t results) {
  Preference preference;
  preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(workspace_.bytes()));
  // Parts of a sum are added in a fixed order and in f32, or a sum is not taken apart.
  preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                 static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    preference.set(attribute, kAlignment);
  }
  cublasLtMatmulHeuristicResult_t proposals[kProposals]{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle_, plan.operation, plan.a, plan.b, plan.c, plan.c,
                                                               preference.handle, kProposals, proposals, &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && count == 0)) return false;
  check(status, "choosing an algorithm");
  // Not by timing, as the bits of results would hang on it.
  const std::span candidates(proposals, static_cast<std::size_t>(std::min(count, kProposals)));
  plan.algorithm = candidates[0].algo;
  if (device_.architecture() != 90 || results < device_.multiprocessors() * kEfficientTileResults) return true;
  const auto chosen = std::find_if(candidates.begin(), candidates.end(),
                                   [](const auto& proposal) { return tile_of(proposal.algo) == kEfficientTile; });
  if (chosen != candidates.end()) plan.algorithm = chosen->algo;
  return true;
}

cublasStatus_t CudaLinear::issue(const Plan& plan, const cublasLtMatmulAlgo_t& algorithm, const CudaProduct& product) {
  const float alpha = 1.0f, beta = product.residual ? 1.0f : 0.0f;
  return cublasLtMatmul(handle_, plan.operation, &alpha, product.weight, plan.a, product.x, plan.b, &beta,
                        product.residual ? product.residual : product.result, plan.c, product.result, plan.c,
                        &algorithm, workspace_.mutable_raw(), workspace_.bytes(), device_.stream());
}

bool CudaLinear::multiply(const CudaProduct& product) {
  const Key key{product.rows,
                product.in,
                product.out,
                product.type,
                product.output,
                product.activation,
                product.bias != nullptr,
                product.residual != nullptr};
  auto position = plans_.find(key);
  if (position == plans_.end()) position = plans_.emplace(key, make_plan(product)).first;
  if (!position->second) return false;
  Plan& plan = *position->second;
  if (product.bias) plan.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
  check(issue(plan, plan.algorithm, product), "multiplying");
  return true;
}

}  // namespace flashvsr::ops
