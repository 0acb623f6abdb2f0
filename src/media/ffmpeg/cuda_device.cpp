#include "media/ffmpeg/cuda_device.h"

// FFmpeg's header asks for CUDA's unless its version is known; two handles are all that it needs.
typedef struct CUctx_st* CUcontext;
typedef struct CUstream_st* CUstream;
#define CUDA_VERSION 0
extern "C" {
#include <libavutil/hwcontext_cuda.h>
}

#include <dlfcn.h>

#include <cstdint>
#include <new>
#include <string_view>
#include <utility>

namespace flashvsr::media {

namespace {

// What is used of the driver, found at run time.
struct Driver {
  int (*init)(unsigned flags);
  int (*device_get)(int* device, int ordinal);
  int (*primary_retain)(CUcontext* context, int device);
  int (*primary_release)(int device);
  int (*push)(CUcontext context);
  int (*pop)(CUcontext* context);
  int (*stream_synchronize)(CUstream stream);
  int (*error_string)(int error, const char** text);

  static const Driver& get() {
    static const Driver driver = load();
    return driver;
  }

  void check(int code, std::string_view what) const {
    if (code == 0) return;
    const char* text = nullptr;
    (void)error_string(code, &text);
    fail(ErrorCode::device, "CUDA: {}: {}", what, text != nullptr ? text : "an unknown error");
  }

 private:
  static Driver load() {
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) fail(ErrorCode::device, "there is no NVIDIA driver here (libcuda.so.1 is not found)");
    Driver driver{};
    const auto find = [library]<typename Function>(Function*& function, const char* name) {
      function = reinterpret_cast<Function*>(dlsym(library, name));
      if (function == nullptr) fail(ErrorCode::device, "the NVIDIA driver has no {}: install a newer one", name);
    };
    find(driver.init, "cuInit");
    find(driver.device_get, "cuDeviceGet");
    find(driver.primary_retain, "cuDevicePrimaryCtxRetain");
    find(driver.primary_release, "cuDevicePrimaryCtxRelease_v2");
    find(driver.push, "cuCtxPushCurrent_v2");
    find(driver.pop, "cuCtxPopCurrent_v2");
    find(driver.stream_synchronize, "cuStreamSynchronize");
    find(driver.error_string, "cuGetErrorString");
    return driver;
  }
};

AVCUDADeviceContext& cuda_of(const AVBufferRef& device) {
  return *static_cast<AVCUDADeviceContext*>(reinterpret_cast<AVHWDeviceContext*>(device.data)->hwctx);
}

void release_primary(AVHWDeviceContext* context) {
  const auto device = static_cast<int>(reinterpret_cast<std::intptr_t>(context->user_opaque));
  (void)Driver::get().primary_release(device);
}

}  // namespace

AvBuffer make_cuda_device(int index) {
  capture_messages();
  const Driver& driver = Driver::get();
  int device = 0;
  driver.check(driver.init(0), "starting the driver");
  driver.check(driver.device_get(&device, index), fmt::format("asking for device {}", index));
  AvBuffer result(av_hwdevice_ctx_alloc(AV_HWDEVICE_TYPE_CUDA));
  if (!result) fail(ErrorCode::unsupported, "this FFmpeg was built without CUDA");
  driver.check(driver.primary_retain(&cuda_of(*result).cuda_ctx, device), "opening the device");
  auto& context = *reinterpret_cast<AVHWDeviceContext*>(result->data);
  context.user_opaque = reinterpret_cast<void*>(static_cast<std::intptr_t>(device));
  context.free = release_primary;
  clear_message();
  const int code = av_hwdevice_ctx_init(result.get());
  if (code < 0) fail(ErrorCode::device, "FFmpeg cannot use the CUDA device: {}", describe_code(code));
  return result;
}

void synchronize(const AVBufferRef& device) {
  const Driver& driver = Driver::get();
  const AVCUDADeviceContext& cuda = cuda_of(device);
  driver.check(driver.push(cuda.cuda_ctx), "entering the device's context");
  const int code = driver.stream_synchronize(cuda.stream);
  CUcontext left = nullptr;
  (void)driver.pop(&left);
  driver.check(code, "waiting for a decoded picture");
}

AvBuffer make_device_frames(AVBufferRef& device, int width, int height) {
  AvBuffer result(av_hwframe_ctx_alloc(&device));
  if (!result) throw std::bad_alloc();
  auto& frames = *reinterpret_cast<AVHWFramesContext*>(result->data);
  frames.format = AV_PIX_FMT_CUDA;
  frames.sw_format = AV_PIX_FMT_NV12;
  frames.width = width;
  frames.height = height;
  clear_message();
  const int code = av_hwframe_ctx_init(result.get());
  if (code < 0) {
    fail(ErrorCode::device, "pictures of {}x{} cannot be made on the CUDA device: {}", width, height,
         describe_code(code));
  }
  return result;
}

AVPixelFormat sample_format(const AVFrame& picture) {
  if (picture.format != AV_PIX_FMT_CUDA || picture.hw_frames_ctx == nullptr)
    return static_cast<AVPixelFormat>(picture.format);
  return reinterpret_cast<const AVHWFramesContext*>(picture.hw_frames_ctx->data)->sw_format;
}

std::optional<ChromaSiting> chroma_siting(AVChromaLocation location) {
  switch (location) {
    case AVCHROMA_LOC_UNSPECIFIED:  // what H.264 and HEVC mean by that
    case AVCHROMA_LOC_LEFT: return ChromaSiting::left;
    case AVCHROMA_LOC_CENTER: return ChromaSiting::center;
    case AVCHROMA_LOC_TOPLEFT: return ChromaSiting::top_left;
    default: return std::nullopt;
  }
}

DevicePicture device_picture_of(AvFrame picture, const ColorTags& tags) {
  DevicePicture result;
  result.luma = picture->data[0];
  result.chroma = picture->data[1];
  result.luma_stride = picture->linesize[0];
  result.chroma_stride = picture->linesize[1];
  result.bit_depth = sample_format(*picture) == AV_PIX_FMT_P010 ? 10 : 8;
  result.matrix = tags.matrix;
  result.range = tags.range;
  result.siting = *chroma_siting(picture->chroma_location);
  result.owner = std::shared_ptr<AVFrame>(std::move(picture));
  return result;
}

}  // namespace flashvsr::media
