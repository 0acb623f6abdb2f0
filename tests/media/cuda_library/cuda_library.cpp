// In the place of the NVIDIA driver's library: two devices without memory, decoder or encoder, so that sources and
// sinks on a device can be opened as far as FFmpeg goes. Counts the holders of their contexts.
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kDevices = 2;
int holders[kDevices], opened[kDevices];

}  // namespace

extern "C" {

// FLASHVSR_TEST_CUDA=none: there is no device.
int cuInit(unsigned) {
  const char* variable = std::getenv("FLASHVSR_TEST_CUDA");
  return variable != nullptr && std::strcmp(variable, "none") == 0 ? 100 : 0;
}
int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return ordinal < kDevices ? 0 : 101;
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
  ++holders[device];
  ++opened[device];
  *context = &holders[device];
  return 0;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
  --holders[device];
  return 0;
}
int cuGetErrorString(int error, const char** text) {
  *text = error == 101 ? "invalid device ordinal" : "no CUDA-capable device is detected";
  return 0;
}
int flashvsr_test_holders(int device) { return holders[device]; }
int flashvsr_test_opened(int device) { return opened[device]; }

// The rest of what FFmpeg looks for.
#define WITHOUT_EFFECT(name) \
  int name() { return 0; }
WITHOUT_EFFECT(cuArray3DCreate_v2)
WITHOUT_EFFECT(cuArrayDestroy)
WITHOUT_EFFECT(cuCtxCreate_v2)
WITHOUT_EFFECT(cuCtxDestroy_v2)
WITHOUT_EFFECT(cuCtxGetDevice)
WITHOUT_EFFECT(cuCtxPopCurrent_v2)
WITHOUT_EFFECT(cuCtxPushCurrent_v2)
WITHOUT_EFFECT(cuCtxSetLimit)
WITHOUT_EFFECT(cuD3D11GetDevice)
WITHOUT_EFFECT(cuD3D11GetDevices)
WITHOUT_EFFECT(cuDestroyExternalMemory)
WITHOUT_EFFECT(cuDestroyExternalSemaphore)
WITHOUT_EFFECT(cuDeviceComputeCapability)
WITHOUT_EFFECT(cuDeviceGetAttribute)
WITHOUT_EFFECT(cuDeviceGetCount)
WITHOUT_EFFECT(cuDeviceGetName)
WITHOUT_EFFECT(cuDeviceGetUuid)
WITHOUT_EFFECT(cuDevicePrimaryCtxGetState)
WITHOUT_EFFECT(cuDevicePrimaryCtxRelease)
WITHOUT_EFFECT(cuDevicePrimaryCtxReset)
WITHOUT_EFFECT(cuDevicePrimaryCtxSetFlags)
WITHOUT_EFFECT(cuEGLStreamConsumerDisconnect)
WITHOUT_EFFECT(cuEGLStreamProducerConnect)
WITHOUT_EFFECT(cuEGLStreamProducerDisconnect)
WITHOUT_EFFECT(cuEGLStreamProducerPresentFrame)
WITHOUT_EFFECT(cuEGLStreamProducerReturnFrame)
WITHOUT_EFFECT(cuEventCreate)
WITHOUT_EFFECT(cuEventDestroy_v2)
WITHOUT_EFFECT(cuEventQuery)
WITHOUT_EFFECT(cuEventRecord)
WITHOUT_EFFECT(cuEventSynchronize)
WITHOUT_EFFECT(cuExternalMemoryGetMappedBuffer)
WITHOUT_EFFECT(cuExternalMemoryGetMappedMipmappedArray)
WITHOUT_EFFECT(cuGLGetDevices_v2)
WITHOUT_EFFECT(cuGetErrorName)
WITHOUT_EFFECT(cuGraphicsD3D11RegisterResource)
WITHOUT_EFFECT(cuGraphicsGLRegisterImage)
WITHOUT_EFFECT(cuGraphicsMapResources)
WITHOUT_EFFECT(cuGraphicsResourceGetMappedPointer_v2)
WITHOUT_EFFECT(cuGraphicsSubResourceGetMappedArray)
WITHOUT_EFFECT(cuGraphicsUnmapResources)
WITHOUT_EFFECT(cuGraphicsUnregisterResource)
WITHOUT_EFFECT(cuImportExternalMemory)
WITHOUT_EFFECT(cuImportExternalSemaphore)
WITHOUT_EFFECT(cuLaunchKernel)
WITHOUT_EFFECT(cuLinkAddData)
WITHOUT_EFFECT(cuLinkComplete)
WITHOUT_EFFECT(cuLinkCreate)
WITHOUT_EFFECT(cuLinkDestroy)
WITHOUT_EFFECT(cuMemAllocManaged)
WITHOUT_EFFECT(cuMemAllocPitch_v2)
WITHOUT_EFFECT(cuMemAlloc_v2)
WITHOUT_EFFECT(cuMemFree_v2)
WITHOUT_EFFECT(cuMemcpy)
WITHOUT_EFFECT(cuMemcpy2DAsync_v2)
WITHOUT_EFFECT(cuMemcpy2D_v2)
WITHOUT_EFFECT(cuMemcpyAsync)
WITHOUT_EFFECT(cuMemcpyDtoDAsync_v2)
WITHOUT_EFFECT(cuMemcpyDtoD_v2)
WITHOUT_EFFECT(cuMemcpyDtoHAsync_v2)
WITHOUT_EFFECT(cuMemcpyDtoH_v2)
WITHOUT_EFFECT(cuMemcpyHtoDAsync_v2)
WITHOUT_EFFECT(cuMemcpyHtoD_v2)
WITHOUT_EFFECT(cuMemsetD8Async)
WITHOUT_EFFECT(cuMipmappedArrayDestroy)
WITHOUT_EFFECT(cuMipmappedArrayGetLevel)
WITHOUT_EFFECT(cuModuleGetFunction)
WITHOUT_EFFECT(cuModuleGetGlobal)
WITHOUT_EFFECT(cuModuleLoadData)
WITHOUT_EFFECT(cuModuleUnload)
WITHOUT_EFFECT(cuSignalExternalSemaphoresAsync)
WITHOUT_EFFECT(cuStreamAddCallback)
WITHOUT_EFFECT(cuStreamCreate)
WITHOUT_EFFECT(cuStreamDestroy_v2)
WITHOUT_EFFECT(cuStreamQuery)
WITHOUT_EFFECT(cuStreamSynchronize)
WITHOUT_EFFECT(cuTexObjectCreate)
WITHOUT_EFFECT(cuTexObjectDestroy)
WITHOUT_EFFECT(cuWaitExternalSemaphoresAsync)
}
