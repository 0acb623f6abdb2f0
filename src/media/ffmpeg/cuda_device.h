// The CUDA device as FFmpeg's decoders and encoders use it. Neither CUDA nor its driver is needed to build or to start.
#pragma once

#include "media/ffmpeg/libav.h"

extern "C" {
#include <libavutil/hwcontext.h>
}

#include <memory>
#include <optional>

namespace flashvsr::media {

struct BufferUnreferencer {
  void operator()(AVBufferRef* buffer) const { av_buffer_unref(&buffer); }
};
using AvBuffer = std::unique_ptr<AVBufferRef, BufferUnreferencer>;

// Device `index` with its primary context, which CUDA's runtime, and so the back end, uses too: both see each other's
// memory. Throws Error(device) with the reason.
AvBuffer make_cuda_device(int index);
// Waits for what FFmpeg has issued on the device. Throws Error(device).
void synchronize(const AVBufferRef& device);

// Pictures of NV12 on the device. Throws Error(device).
AvBuffer make_device_frames(AVBufferRef& device, int width, int height);

// The pixel format of the samples, also of a picture on a device.
AVPixelFormat sample_format(const AVFrame& picture);
// nullopt for sitings that ChromaSiting does not know.
std::optional<ChromaSiting> chroma_siting(AVChromaLocation location);
// `picture` on the device, as others see it; it becomes the owner. Its siting is known.
DevicePicture device_picture_of(AvFrame picture, const ColorTags& tags);

}  // namespace flashvsr::media
