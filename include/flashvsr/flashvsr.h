/* flashvsr: streaming video super-resolution in one diffusion step (FlashVSR, arXiv 2510.12747).
 *
 * A model holds weights and is shared; a stream upscales one video and belongs to one thread at a time. Frames are
 * 8-bit RGB, rows top to bottom, or images in a device's memory (flashvsr_image). For N frames sent, exactly N frames
 * are received, in order.
 *
 *   flashvsr_model* model = NULL;
 *   flashvsr_stream* stream = NULL;
 *   flashvsr_model_settings model_settings = flashvsr_default_model_settings();
 *   flashvsr_stream_settings settings = flashvsr_default_stream_settings();
 *   settings.input_width = 320, settings.input_height = 180;       // output: input x scale
 *   if (flashvsr_model_open("nano", &model_settings, &model)) die(flashvsr_last_error());
 *   if (flashvsr_stream_open(model, &settings, &stream)) die(flashvsr_last_error());
 *   for (;;) {
 *     flashvsr_status status = flashvsr_stream_receive(stream, output, output_stride);
 *     if (status == FLASHVSR_OK) use(output);
 *     else if (status == FLASHVSR_END) break;
 *     else if (status == FLASHVSR_AGAIN) {
 *       if (read_frame(input)) status = flashvsr_stream_send(stream, input, input_stride);
 *       else status = flashvsr_stream_drain(stream);
 *     }
 *     if (status < 0) die(flashvsr_last_error());
 *   }
 *   flashvsr_stream_close(stream);
 *   flashvsr_model_close(model);
 *
 * Delay: the first 21 frames come out after 25 went in, then 8 frames after every 8 more. A frame therefore waits for
 * at most 24 later ones at the start and 11 in the steady state; drain() releases what is left.
 *
 * Streams of one model take turns: a call that computes waits until those of other threads are done, while receive()
 * never waits. Callbacks must not call into the streams of the same model.
 */
#ifndef FLASHVSR_FLASHVSR_H
#define FLASHVSR_FLASHVSR_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define FLASHVSR_API
#else
#define FLASHVSR_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define FLASHVSR_VERSION_MAJOR 0
#define FLASHVSR_VERSION_MINOR 1
#define FLASHVSR_VERSION_PATCH 0

typedef struct flashvsr_model flashvsr_model;
typedef struct flashvsr_stream flashvsr_stream;

/* Errors are negative; the message of the calling thread's last error is in flashvsr_last_error(). */
typedef enum flashvsr_status {
  FLASHVSR_OK = 0,
  FLASHVSR_AGAIN = 1, /* receive: send more frames first. send: receive first */
  FLASHVSR_END = 2,   /* receive: the stream was drained and every frame has been received */
  FLASHVSR_ERROR_INVALID_ARGUMENT = -1,
  FLASHVSR_ERROR_IO = -2,
  FLASHVSR_ERROR_FORMAT = -3,      /* a damaged or foreign file */
  FLASHVSR_ERROR_UNSUPPORTED = -4, /* not in this build or on this device */
  FLASHVSR_ERROR_OUT_OF_MEMORY = -5,
  FLASHVSR_ERROR_DEVICE = -6,
  FLASHVSR_ERROR_CANCELLED = -7, /* a progress callback asked to stop */
  FLASHVSR_ERROR_INTERNAL = -8
} flashvsr_status;

typedef enum flashvsr_device {
  FLASHVSR_DEVICE_AUTO = 0,
  FLASHVSR_DEVICE_CPU = 1,
  FLASHVSR_DEVICE_CUDA = 2
} flashvsr_device;
typedef enum flashvsr_precision {
  FLASHVSR_PRECISION_AUTO = 0, /* bf16 where the device multiplies it natively, else f32 */
  FLASHVSR_PRECISION_F32 = 1,
  FLASHVSR_PRECISION_BF16 = 2
} flashvsr_precision;
typedef enum flashvsr_variant {
  FLASHVSR_VARIANT_FROM_FILE = 0, /* packed files and folders with config.json say it */
  FLASHVSR_VARIANT_V1 = 1,
  FLASHVSR_VARIANT_V1_1 = 2
} flashvsr_variant;
typedef enum flashvsr_decoder { FLASHVSR_DECODER_TINY = 0, FLASHVSR_DECODER_FULL = 1 /* Wan VAE */ } flashvsr_decoder;
typedef enum flashvsr_color_fix {
  FLASHVSR_COLOR_FIX_AUTO = 0, /* what the model recommends */
  FLASHVSR_COLOR_FIX_ADAIN = 1,
  FLASHVSR_COLOR_FIX_WAVELET = 2,
  FLASHVSR_COLOR_FIX_NONE = 3
} flashvsr_color_fix;
typedef enum flashvsr_local_window {
  FLASHVSR_LOCAL_WINDOW_AUTO = 0,
  FLASHVSR_LOCAL_WINDOW_TRUNCATED = 1,
  FLASHVSR_LOCAL_WINDOW_PRESERVED = 2
} flashvsr_local_window;
typedef enum flashvsr_log_level {
  FLASHVSR_LOG_DEBUG = 0,
  FLASHVSR_LOG_INFO = 1,
  FLASHVSR_LOG_WARNING = 2,
  FLASHVSR_LOG_ERROR = 3
} flashvsr_log_level;

/* Always start from flashvsr_default_...(): struct_size guards against an older header. */
typedef struct flashvsr_model_settings {
  size_t struct_size;
  flashvsr_device device;
  flashvsr_precision precision;
  flashvsr_variant variant;
  int threads; /* 0: all cores */
  /* Bytes of the device's memory (the CPU: of the machine's) that streams are planned for; 0: all that there is. Where
     it is not enough, the decoder works in smaller slices; on a device a part of the KV cache lies in the host's
     memory, which is slower; and at last frames are cut into tiles (flashvsr_stream_settings). */
  uint64_t memory_limit;
  int device_index; /* with FLASHVSR_DEVICE_CUDA: which of the devices, from 0; else 0 */
} flashvsr_model_settings;

typedef struct flashvsr_stream_settings {
  size_t struct_size;
  int input_width, input_height;   /* pixels; required */
  int output_width, output_height; /* pixels; 0: floor(input x scale + 1/2) */
  double scale;                    /* used when output_width is 0; default: 4 */
  flashvsr_decoder decoder;
  flashvsr_color_fix color_fix;
  double sparse_ratio; /* > 0; 0: the model's (2.0 stable, 1.5 faster); negative: keep all allowed blocks */
  int local_range;     /* blocks of 128 pixels; 0: the model's (11, or 9 for sharper) */
  flashvsr_local_window local_window;
  int kv_chunks; /* chunks of 8 frames that the KV cache keeps; 0: the model's (3) */
  /* Tiles that frames are cut into, of at least 256 pixels a side, which overlap by 128 or more and are blended. 0, 0:
     as few as memory makes necessary, mostly one. 1, 1: never more than one; a stream that does not fit is an error.
     Attention does not cross borders of tiles, which costs quality there: a stream with tiles logs a warning. */
  int tile_columns, tile_rows;
  uint64_t seed;
  /* Instead of the built-in noise: fills values[16][height][width] (latents of 1/8 of the padded output size) of one
     latent. Return 0, or anything else to cancel. */
  int (*noise)(void* user, int64_t latent, int height, int width, float* values);
  void* noise_user;
  /* Instead of the model's encoded prompt: [prompt_tokens][text_dim]. Read during flashvsr_stream_open only. */
  const float* prompt;
  int prompt_tokens;
  /* Called after every few frames (never more than 4) with the number that are done. Return 0, or anything else to
     cancel: the call in progress then gives FLASHVSR_ERROR_CANCELLED. */
  int (*progress)(void* user, int64_t frames_done);
  void* progress_user;
  /* 1: frames will be sent by flashvsr_stream_send_image too, and memory for that is planned. */
  int image_input;
  /* 1: finished frames stay in the device's memory, and are received by flashvsr_stream_receive_image alone. */
  int image_output;
} flashvsr_stream_settings;

typedef enum flashvsr_image_format {
  FLASHVSR_IMAGE_NV12 = 0, /* 8 bits */
  FLASHVSR_IMAGE_P010 = 1  /* 10 bits, the upper ones of 16 (little endian) */
} flashvsr_image_format;
typedef enum flashvsr_chroma_siting {
  FLASHVSR_CHROMA_LEFT = 0,    /* on the left one of the pixels that share it, vertically between (MPEG-2, H.264) */
  FLASHVSR_CHROMA_CENTER = 1,  /* between them both ways (JPEG, MPEG-1) */
  FLASHVSR_CHROMA_TOP_LEFT = 2 /* on the upper left one; only for images that are sent */
} flashvsr_chroma_siting;

/* A picture of Y'CbCr 4:2:0 as video decoders give it and encoders take it: a plane of luma, and one of half the size
   (rounded up) in which a sample of Cb and one of Cr take turns. It lies in the memory of the model's device, for CUDA
   in its primary context; in the host's memory where the CPU computes. It has the size of the stream's input or
   output. */
typedef struct flashvsr_image {
  size_t struct_size;
  flashvsr_image_format format;
  void* luma; /* the first sample */
  void* chroma;
  ptrdiff_t luma_stride, chroma_stride; /* bytes from row to row; for P010 addresses and strides are even */
  int matrix;                           /* of ITU-T H.273: 1 BT.709, 5 and 6 BT.601, 9 BT.2020 */
  int full_range;                       /* 0: luma from 16 to 235 */
  flashvsr_chroma_siting siting;
} flashvsr_image;

typedef struct flashvsr_model_info {
  size_t struct_size;
  const char* name;    /* lives as long as the model */
  const char* variant; /* "v1" or "v1.1" */
  const char* device;  /* "cpu", "cuda" */
  const char* precision;
  const char* color_fix; /* recommended */
  int has_tiny_decoder, has_full_decoder;
  int text_dim;
  int64_t parameters;
  double sparse_ratio;
  int local_range, kv_chunks, scale;
} flashvsr_model_info;

/* What a stream takes in all, in bytes: of the device's memory, or of the machine's where the CPU computes. Planned
   when the stream is opened, which fails with FLASHVSR_ERROR_OUT_OF_MEMORY where it does not fit. */
typedef struct flashvsr_memory {
  size_t struct_size;
  uint64_t needed;    /* the sum of the following; the weights are the model's, whose streams share them */
  uint64_t available; /* what there was for all of it */
  uint64_t weights, kv_cache;
  uint64_t state;         /* what the stream remembers besides the KV cache, images that wait, constants of the model */
  uint64_t working;       /* while a chunk is computed */
  uint64_t spilled;       /* of the KV cache in the host's memory, no part of what is needed */
  uint64_t decoder_slice; /* what the tiny decoder takes at the output's resolution at most; 0: the full decoder */
  int tile_columns, tile_rows; /* 1, 1: frames are not cut */
  int tile_width, tile_height; /* pixels */
} flashvsr_memory;

FLASHVSR_API const char* flashvsr_version(void); /* "0.1.0" */
/* One line: what, why, what to do. Never NULL. Valid until the thread's next call. */
FLASHVSR_API const char* flashvsr_last_error(void);
/* Messages of all threads; NULL: none (the default). The callback must be thread-safe. */
FLASHVSR_API void flashvsr_set_log_callback(void (*callback)(void* user, flashvsr_log_level level, const char* message),
                                            void* user);

FLASHVSR_API flashvsr_model_settings flashvsr_default_model_settings(void);
FLASHVSR_API flashvsr_stream_settings flashvsr_default_stream_settings(void);
FLASHVSR_API flashvsr_image flashvsr_default_image(void); /* NV12, BT.709, limited range, chroma left */

/* `path`: the name of an installed model ("nano", the built-in one; NULL means it), a packed .safetensors file, or a
   folder of published files. Names are looked up in the folders of the environment variable FLASHVSR_MODEL_PATH
   (separated by colons), then beside the library, beside the program, and where models are installed.
   `settings`: NULL means the defaults. */
FLASHVSR_API flashvsr_status flashvsr_model_open(const char* path, const flashvsr_model_settings* settings,
                                                 flashvsr_model** model);
/* Set info->struct_size to sizeof(flashvsr_model_info) first. */
FLASHVSR_API flashvsr_status flashvsr_model_get_info(const flashvsr_model* model, flashvsr_model_info* info);
FLASHVSR_API void flashvsr_model_close(flashvsr_model* model); /* NULL is allowed. Its streams may live on */

FLASHVSR_API flashvsr_status flashvsr_stream_open(flashvsr_model* model, const flashvsr_stream_settings* settings,
                                                  flashvsr_stream** stream);
/* Output size in pixels. */
FLASHVSR_API flashvsr_status flashvsr_stream_get_size(const flashvsr_stream* stream, int* width, int* height);
/* Set memory->struct_size to sizeof(flashvsr_memory) first. */
FLASHVSR_API flashvsr_status flashvsr_stream_get_memory(const flashvsr_stream* stream, flashvsr_memory* memory);
/* Takes one frame (copied), `stride` bytes from row to row (at least 3 x width). The frame that completes a chunk runs
   it: on the CPU that call takes as long as the chunk, on a device it returns while the device works. FLASHVSR_AGAIN:
   nothing taken, receive first (a chunk is not run while finished frames wait: at most 29 ever do, and 40 after a
   drain). After an error or a cancel in the middle of a chunk every call fails until the stream is reset or restored.
 */
FLASHVSR_API flashvsr_status flashvsr_stream_send(flashvsr_stream* stream, const uint8_t* rgb, ptrdiff_t stride);
/* The same with an image: needs the setting image_input. Work that fills the image must have ended; when the call
   returns it has been read, and may be changed or given back. The device does so beside the chunk that it works on. */
FLASHVSR_API flashvsr_status flashvsr_stream_send_image(flashvsr_stream* stream, const flashvsr_image* image);
/* No more frames will come: upscales what is left. Drained streams take no more frames until they are reset. */
FLASHVSR_API flashvsr_status flashvsr_stream_drain(flashvsr_stream* stream);
/* Gives the next finished frame. FLASHVSR_AGAIN: none is finished, send more frames. */
FLASHVSR_API flashvsr_status flashvsr_stream_receive(flashvsr_stream* stream, uint8_t* rgb, ptrdiff_t stride);
/* The same into an image: needs the setting image_output. No work may use the image any more; when the call returns it
   has been written, beside the chunk that the device works on. */
FLASHVSR_API flashvsr_status flashvsr_stream_receive_image(flashvsr_stream* stream, const flashvsr_image* image);
/* Back to the start of a new video of the same size (also after an error or a cancel). */
FLASHVSR_API flashvsr_status flashvsr_stream_reset(flashvsr_stream* stream);
/* Everything that the stream remembers, as one block of bytes: save with data = NULL first to learn the size, restore
   into a stream opened with the same model and settings, and with as many tiles (flashvsr_memory says how many). The
   restored stream goes on bit for bit. A restore that fails leaves the stream as it was. */
FLASHVSR_API flashvsr_status flashvsr_stream_save(const flashvsr_stream* stream, void* data, size_t* size);
FLASHVSR_API flashvsr_status flashvsr_stream_restore(flashvsr_stream* stream, const void* data, size_t size);
FLASHVSR_API void flashvsr_stream_close(flashvsr_stream* stream); /* NULL is allowed */

#ifdef __cplusplus
}
#endif
#endif
