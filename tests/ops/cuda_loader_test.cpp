// Loading libflashvsr_cuda.so: what is said when it cannot be used, and that errors cross its boundary. No GPU is
// needed.
#include "ops/cuda_loader.h"

#include "ops/backend.h"
#include "test_tensors.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace flashvsr::ops {
namespace {

namespace fs = std::filesystem;

const fs::path kLibraries = CUDA_LIBRARIES;

// What the function says when it throws Error(device).
template <typename Function>
std::string device_error(const Function& function) {
  try {
    function();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::device) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in \"" << text << "\"";
}

TEST(CudaLoader, GivesABackEnd) {
  const CudaPlugin& library = load_cuda_library({kLibraries / "nowhere" / "good_cuda.so", kLibraries / "good_cuda.so"});
  EXPECT_NO_THROW(library.require_device(0));
  const std::unique_ptr<Operations> f32(library.make({.f32 = true})), bf16(library.make({}));
  EXPECT_EQ(f32->compute_type(), DType::f32);
  EXPECT_EQ(bf16->compute_type(), DType::bf16);
  const Tensor x = f32->from_host(test::host_f32({2}, {1, 2}));
  EXPECT_EQ(test::values_of(*f32, f32->affine(x, 2, 1, DType::f32)), (std::vector<float>{3, 5}));
}

// The types are hidden on both sides: they are known by their names.
TEST(CudaLoader, ErrorsOfTheLibraryAreCaughtHere) {
  const CudaPlugin& library = load_cuda_library({kLibraries / "good_cuda.so"});
  EXPECT_EQ(device_error([&] { library.require_device(3); }), "there is no CUDA device 3: there is 1");
  try {
    library.describe();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
    expect_contains(error.what(), "too long to be short");
  }
  EXPECT_THROW(library.describe(), std::runtime_error);
  // The checks of the operations run inside of the library, too.
  const std::unique_ptr<Operations> operations(library.make({.f32 = true}));
  EXPECT_THROW(operations->to_host(Tensor()), Error);
}

TEST(CudaLoader, SaysWhatIsWrongWithALibrary) {
  const std::string old = device_error([] { load_cuda_library({kLibraries / "old_cuda.so"}); });
  expect_contains(old, "old_cuda.so");
  expect_contains(old, "flashvsr-cuda-0");
  expect_contains(old, kCudaPluginVersion);
  const std::string strange = device_error([] { load_cuda_library({kLibraries / "strange_cuda.so"}); });
  expect_contains(strange, "strange_cuda.so");
  expect_contains(strange, kCudaPluginEntry);
  // As when CUDA's own libraries are missing.
  const std::string lonely = device_error([] { load_cuda_library({kLibraries / "lonely_cuda.so"}); });
  expect_contains(lonely, "lonely_cuda.so cannot be loaded: libcuda_dependency.so: cannot open");
  expect_contains(lonely, "LD_LIBRARY_PATH");
}

TEST(CudaLoader, SaysWhereItHasLooked) {
  const std::string nowhere = device_error([] {
    load_cuda_library({"/first/lib.so", "/second/lib.so", "no_such_library_anywhere.so"});
  });
  expect_contains(nowhere, "the CUDA back end is not here");
  expect_contains(nowhere, "/first, /second, the system's library folders");
}

TEST(CudaLoader, LooksBesideTheProgramFirst) {
  const std::vector<fs::path> places = cuda_library_places();
  const fs::path folder = fs::read_symlink("/proc/self/exe").parent_path();
  ASSERT_GE(places.size(), 3u);
  EXPECT_EQ(places.front(), folder / kCudaPluginFile);
  EXPECT_NE(std::ranges::find(places, folder.parent_path() / "lib" / kCudaPluginFile), places.end());
  EXPECT_EQ(places.back(), kCudaPluginFile);
}

TEST(CudaLoader, NamesTheCauseWhereThereIsNoDriver) {
  if (void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL)) {
    dlclose(driver);
    GTEST_SKIP() << "there is a driver";
  }
  const std::string driver = device_error(require_cuda_driver);
  expect_contains(driver, "no NVIDIA driver");
  expect_contains(driver, "libcuda.so.1");
  const std::string reason = device_error([] { make_backend({.device = Device::cuda}); });
  EXPECT_EQ(reason, cuda_unavailable_reason());
  // Either is missing, depending on the build.
  EXPECT_TRUE(reason.find("NVIDIA driver") != std::string::npos || reason.find(kCudaPluginFile) != std::string::npos)
      << reason;
  EXPECT_EQ(make_backend({.device = Device::automatic})->name(), make_backend({.device = Device::cpu})->name());
}

}  // namespace
}  // namespace flashvsr::ops
