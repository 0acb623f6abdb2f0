// Warpgroup matrix products (sm_90a), bf16 with f32 accumulators.
#pragma once

#include "ops/cuda/ptx/mbarrier.cuh"

namespace flashvsr::cuda::ptx {

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int Pending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// Keeps the compiler from reading accumulators before the wait in front of this.
template <int Size>
__device__ __forceinline__ void wgmma_results(float (&d)[Size]) {
#pragma unroll
  for (int i = 0; i < Size; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

template <int Registers>
__device__ __forceinline__ void set_max_registers_up() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
__device__ __forceinline__ void set_max_registers_down() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}

// Descriptor of an operand in shared memory with the 128-byte swizzle (layout type 1 in bits 62..63): address,
// leading and stride byte offsets, each in units of 16 bytes. K-major operands advance by 32 bytes per k16 inside the
// 128-byte atom; stride_bytes is the distance of 8-row groups (1024 when rows are dense), leading_bytes the distance of
// 64-column panels (N-major operands only).
__device__ __forceinline__ std::uint64_t wgmma_descriptor(const void* pointer, std::uint32_t leading_bytes,
                                                          std::uint32_t stride_bytes) {
  return static_cast<std::uint64_t>((shared_address(pointer) & 0x3ffffu) >> 4) |
         (static_cast<std::uint64_t>((leading_bytes & 0x3ffffu) >> 4) << 16) |
         (static_cast<std::uint64_t>((stride_bytes & 0x3ffffu) >> 4) << 32) | (1ull << 62);
}

#define FLASHVSR_ACC4(d, o) "+f"(d[o]), "+f"(d[o + 1]), "+f"(d[o + 2]), "+f"(d[o + 3])
#define FLASHVSR_ACC16(d, o) \
  FLASHVSR_ACC4(d, o), FLASHVSR_ACC4(d, o + 4), FLASHVSR_ACC4(d, o + 8), FLASHVSR_ACC4(d, o + 12)
#define FLASHVSR_ACC64(d) FLASHVSR_ACC16(d, 0), FLASHVSR_ACC16(d, 16), FLASHVSR_ACC16(d, 32), FLASHVSR_ACC16(d, 48)
#define FLASHVSR_REGS64                                                                                             \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29," \
  "%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,"    \
  "%57,%58,%59,%60,%61,%62,%63}"

// d[64 x 128] (+)= A[64 x 16] B[16 x 128], both in shared memory. TransposeB: B is stored [k][n] instead of [n][k].
template <int TransposeB>
__device__ __forceinline__ void wgmma_m64n128k16(float (&d)[64], std::uint64_t a, std::uint64_t b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " FLASHVSR_REGS64 ", %64, %65, p, 1, 1, 0, %67;\n}"
      : FLASHVSR_ACC64(d)
      : "l"(a), "l"(b), "r"(accumulate), "n"(TransposeB));
}

// The same with A in registers.
template <int TransposeB>
__device__ __forceinline__ void wgmma_m64n128k16(float (&d)[64], const std::uint32_t (&a)[4], std::uint64_t b,
                                                 int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " FLASHVSR_REGS64
      ", {%64,%65,%66,%67}, %68, p, 1, 1, %70;\n}"
      : FLASHVSR_ACC64(d)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate), "n"(TransposeB));
}

// d[64 x 16] (+)= A[64 x 16] B[16 x 16], both in shared memory, B stored [n][k].
__device__ __forceinline__ void wgmma_m64n16k16(float (&d)[8], std::uint64_t a, std::uint64_t b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %10, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7}, %8, %9, p, 1, 1, 0, 0;\n}"
      : FLASHVSR_ACC4(d, 0), FLASHVSR_ACC4(d, 4)
      : "l"(a), "l"(b), "r"(accumulate));
}

// d[64 x 32] (+)= A[64 x 16] B[16 x 32], both in shared memory, B stored [n][k].
__device__ __forceinline__ void wgmma_m64n32k16(float (&d)[16], std::uint64_t a, std::uint64_t b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, %16, %17, p, 1, 1, 0, 0;\n}"
      : FLASHVSR_ACC16(d, 0)
      : "l"(a), "l"(b), "r"(accumulate));
}

}  // namespace flashvsr::cuda::ptx
