// Block-sparse and dense attention: the kernels that run a call.
#include "ops/cuda/attention.h"

#include "ops/cuda/cuda_operations.h"
#include "ops/cuda/kernels/attention_plain.h"
#include "ops/cuda/kernels/attention_slots.h"
#include "ops/cuda/kernels/sparse_attention.h"
#include "ops/cuda/kernels/sparse_attention_portable.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <string_view>
#include <vector>

namespace flashvsr::ops {
namespace {

using cuda::check;

static_assert(kBlockTokens == cuda::kAttentionBlock);

// The Hopper kernel's limits: a row of the mask is a 16-bit number, a block of the grid has a thread.
constexpr std::int64_t kHopperHeadDim = 128, kHopperRows = 65535;
constexpr int kHopperMultiprocessors = 383;
// Dense attention through lists of all blocks: as long as the lists stay small (64 MB) beside keys and values.
constexpr std::int64_t kMostFullIndices = std::int64_t{1} << 24;

bool has_hopper(const cuda::Device& device) {
  return device.architecture() == 90 && device.multiprocessors() <= kHopperMultiprocessors;
}

AttentionPath chosen_path(const cuda::Device& device) {
  const AttentionPath best = has_hopper(device) ? AttentionPath::hopper : AttentionPath::portable;
  const char* variable = std::getenv("FLASHVSR_CUDA_ATTENTION");
  if (!variable || !*variable) return best;
  const std::string_view name = variable;
  if (name == "plain") return AttentionPath::plain;
  if (name == "portable") return AttentionPath::portable;
  if (name != "hopper") {
    fail(ErrorCode::invalid_argument, "FLASHVSR_CUDA_ATTENTION is \"{}\": it must be hopper, portable or plain", name);
  }
  if (best != AttentionPath::hopper) {
    fail(ErrorCode::invalid_argument,
         "FLASHVSR_CUDA_ATTENTION is \"hopper\", but {} has compute capability {}.{}: it must be portable or plain",
         device.properties().name, device.properties().major, device.properties().minor);
  }
  return AttentionPath::hopper;
}

// The lists of a mask that keeps every block.
struct FullLists {
  Tensor offsets, indices;
};

bool hopper_takes(DType type, std::int64_t head_dim, std::int64_t rows) {
  return type == DType::bf16 && head_dim == kHopperHeadDim && rows <= kHopperRows;
}

cuda::SparseAttentionArguments hopper_arguments(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                                                const Tensor& offsets, const Tensor& indices, std::int64_t heads,
                                                void* workspace) {
  cuda::SparseAttentionArguments a;
  a.q = static_cast<const __nv_bfloat16*>(q.raw());
  a.k = static_cast<const __nv_bfloat16*>(k.raw());
  a.v = static_cast<const __nv_bfloat16*>(v.raw());
  a.out = static_cast<__nv_bfloat16*>(out.mutable_raw());
  a.offsets = offsets.data<int>();
  a.indices = indices.data<int>();
  a.heads = static_cast<int>(heads);
  const std::int64_t dim = q.dim(-1);
  a.query_blocks = static_cast<int>(q.elements() / dim / kBlockTokens);
  a.ring_blocks = static_cast<int>(k.elements() / dim / kBlockTokens);
  a.workspace = workspace;
  return a;
}

// On the tensor cores where they can, else plainly. These kernels count tokens in int.
void run_general(const cuda::AttentionArguments& arguments, AttentionPath path, const cuda::Device& device,
                 std::int64_t query_tokens, std::int64_t key_tokens) {
  constexpr std::int64_t kMostTokens = std::numeric_limits<int>::max() - cuda::kAttentionBlock;
  require(query_tokens <= kMostTokens && key_tokens <= kMostTokens,
          "attention on CUDA takes at most 2^31 - 129 queries and as many keys");
  if (path != AttentionPath::plain && arguments.type == DType::bf16 &&
      cuda::attention_portable_takes(arguments.head_dim)) {
    check(cuda::launch_attention_portable(arguments, device.properties().sharedMemPerMultiprocessor, device.stream()),
          "attention");
  } else {
    check(cuda::launch_attention_plain(arguments, device.stream()), "attention");
  }
}

}  // namespace

CudaAttention::CudaAttention(cuda::Device& device) : path(chosen_path(device)) {
  if (path == AttentionPath::hopper) {
    const std::size_t bytes = cuda::sparse_attention_workspace(device.multiprocessors());
    workspace = device.allocate_weights({static_cast<std::int64_t>(bytes)}, DType::u8);
  }
}

Tensor CudaOperations::do_sparse_attention(const Tensor& q, const KeyValueView& keys, const BlockMask& mask,
                                           std::int64_t heads) {
  const Tensor result = allocate(q.shape(), q.dtype());
  if (result.elements() == 0) return result;
  const std::int64_t head_dim = q.dim(1) / heads, query_blocks = q.dim(0) / kBlockTokens;
  const auto windows = static_cast<std::int64_t>(keys.slots.size());
  if (attention_->path == AttentionPath::hopper && hopper_takes(q.dtype(), head_dim, heads * query_blocks) &&
      windows <= cuda::kAttentionMaxWindows && keys.k.elements() > 0) {
    cuda::SparseAttentionArguments a = hopper_arguments(q, keys.k, keys.v, result, mask.offsets, mask.indices, heads,
                                                        attention_->workspace.mutable_raw());
    a.window_blocks = static_cast<int>(keys.window_blocks);
    a.windows = static_cast<int>(windows);
    std::ranges::transform(keys.slots, a.slots, [](std::int64_t slot) { return static_cast<int>(slot); });
    check(cuda::launch_sparse_attention_hopper(a, device_.multiprocessors(), stream()), "sparse attention");
    return result;
  }

  cuda::AttentionArguments a;
  a.q = q.raw(), a.k = keys.k.raw(), a.v = keys.v.raw(), a.out = result.mutable_raw();
  a.type = q.dtype();
  a.heads = static_cast<int>(heads), a.head_dim = static_cast<int>(head_dim);
  a.queries = static_cast<int>(q.dim(0));
  a.offsets = mask.offsets.data<int>(), a.indices = mask.indices.data<int>();
  a.query_blocks = static_cast<int>(query_blocks), a.window_blocks = static_cast<int>(keys.window_blocks);
  Tensor table;
  if (windows <= cuda::kAttentionLaunchSlots) {
    std::ranges::transform(keys.slots, a.slots, [](std::int64_t slot) { return static_cast<int>(slot); });
  } else {
    table = allocate({windows}, DType::i32);
    a.slot_table = table.mutable_data<int>();
    check(cuda::launch_write_slots(keys.slots.data(), windows, table.mutable_data<int>(), stream()),
          "writing the slots of windows");
  }
  run_general(a, attention_->path, device_, q.dim(0), keys.k.elements() / q.dim(1));
  return result;
}

Tensor CudaOperations::do_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::int64_t heads) {
  const Tensor result = allocate(q.shape(), q.dtype());
  if (result.elements() == 0) return result;
  const std::int64_t head_dim = q.dim(2) / heads, queries = q.dim(1), count = k.dim(1);
  const std::int64_t query_blocks = queries / kBlockTokens, key_blocks = count / kBlockTokens;
  // Whole blocks: block-sparse attention that keeps them all.
  if (attention_->path == AttentionPath::hopper && hopper_takes(q.dtype(), head_dim, heads * query_blocks) &&
      q.dim(0) == 1 && queries % kBlockTokens == 0 && count % kBlockTokens == 0) {
    const std::int64_t rows = heads * query_blocks;
    if (rows * key_blocks <= kMostFullIndices) {
      // The lists depend on the numbers of rows and of key blocks alone.
      const auto& lists =
          prepared_.get<FullLists>({static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(key_blocks)}, [&] {
            std::vector<std::int32_t> offsets, indices;
            for (std::int64_t row = 0; row < rows; ++row) {
              offsets.push_back(static_cast<std::int32_t>(indices.size()));
              for (std::int64_t block = 0; block < key_blocks; ++block)
                indices.push_back(static_cast<std::int32_t>(block));
            }
            offsets.push_back(static_cast<std::int32_t>(indices.size()));
            return FullLists{upload_weights(offsets.data(), {rows + 1}, DType::i32, DType::i32),
                             upload_weights(indices.data(), {rows * key_blocks}, DType::i32, DType::i32)};
          });
      cuda::SparseAttentionArguments a =
          hopper_arguments(q, k, v, result, lists.offsets, lists.indices, heads, attention_->workspace.mutable_raw());
      // One window in slot 0.
      a.window_blocks = static_cast<int>(key_blocks);
      a.windows = 1;
      check(cuda::launch_sparse_attention_hopper(a, device_.multiprocessors(), stream()), "attention");
      return result;
    }
  }

  cuda::AttentionArguments a;
  a.q = q.raw(), a.k = k.raw(), a.v = v.raw(), a.out = result.mutable_raw();
  a.type = q.dtype();
  a.heads = static_cast<int>(heads), a.head_dim = static_cast<int>(head_dim);
  a.batch = static_cast<int>(q.dim(0)), a.queries = static_cast<int>(queries), a.keys = static_cast<int>(count);
  a.shared_keys = k.dim(0) == 1;
  run_general(a, attention_->path, device_, q.dim(0) * queries, k.dim(0) * count);
  return result;
}

}  // namespace flashvsr::ops
