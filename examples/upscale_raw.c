/* Upscales raw RGB frames from standard input to standard output.
 *
 *   ffmpeg -i clip.mp4 -f rawvideo -pix_fmt rgb24 - | upscale_raw 320 180 | ffplay -f rawvideo -pixel_format rgb24 \
 *     -video_size 1280x720 -
 *
 * upscale_raw WIDTH HEIGHT [SCALE [MODEL]]
 */
#include <flashvsr/flashvsr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int report(const char* what) {
  fprintf(stderr, "upscale_raw: %s: %s\n", what, flashvsr_last_error());
  return EXIT_FAILURE;
}

/* Sends and receives until every frame is through. */
static int upscale(flashvsr_stream* stream, uint8_t* input, size_t input_width, size_t input_bytes, uint8_t* output,
                   size_t output_width, size_t output_bytes) {
  for (;;) {
    flashvsr_status status = flashvsr_stream_receive(stream, output, (ptrdiff_t)(3 * output_width));
    if (status == FLASHVSR_OK) {
      if (fwrite(output, 1, output_bytes, stdout) != output_bytes) {
        perror("upscale_raw: cannot write");
        return EXIT_FAILURE;
      }
    } else if (status == FLASHVSR_END) {
      return EXIT_SUCCESS;
    } else if (status == FLASHVSR_AGAIN) {
      const size_t bytes = fread(input, 1, input_bytes, stdin);
      if (ferror(stdin)) {
        perror("upscale_raw: cannot read");
        return EXIT_FAILURE;
      }
      if (bytes == input_bytes) {
        status = flashvsr_stream_send(stream, input, (ptrdiff_t)(3 * input_width));
      } else if (bytes == 0) {
        status = flashvsr_stream_drain(stream);
      } else {
        fprintf(stderr, "upscale_raw: the last frame is cut short: %zu of %zu bytes\n", bytes, input_bytes);
        return EXIT_FAILURE;
      }
    }
    if (status < 0) return report("upscaling");
  }
}

int main(int argc, char** argv) {
  if (argc < 3 || argc > 5) {
    fprintf(stderr, "usage: upscale_raw WIDTH HEIGHT [SCALE [MODEL]] < frames.rgb > upscaled.rgb\n");
    return EXIT_FAILURE;
  }
  flashvsr_model_settings model_settings = flashvsr_default_model_settings();
  flashvsr_stream_settings settings = flashvsr_default_stream_settings();
  settings.input_width = atoi(argv[1]);
  settings.input_height = atoi(argv[2]);
  if (argc > 3) settings.scale = atof(argv[3]);

  flashvsr_model* model = NULL;
  flashvsr_stream* stream = NULL;
  uint8_t *input = NULL, *output = NULL;
  int result = EXIT_FAILURE, width = 0, height = 0;
  if (flashvsr_model_open(argc > 4 ? argv[4] : NULL, &model_settings, &model) != FLASHVSR_OK) {
    report("cannot open the model");
  } else if (flashvsr_stream_open(model, &settings, &stream) != FLASHVSR_OK ||
             flashvsr_stream_get_size(stream, &width, &height) != FLASHVSR_OK) {
    report("cannot open a stream");
  } else {
    const size_t input_bytes = (size_t)settings.input_width * (size_t)settings.input_height * 3;
    const size_t output_bytes = (size_t)width * (size_t)height * 3;
    input = malloc(input_bytes);
    output = malloc(output_bytes);
    if (input == NULL || output == NULL) {
      fprintf(stderr, "upscale_raw: out of memory\n");
    } else {
      fprintf(stderr, "upscale_raw: %dx%d -> %dx%d\n", settings.input_width, settings.input_height, width, height);
      result = upscale(stream, input, (size_t)settings.input_width, input_bytes, output, (size_t)width, output_bytes);
      if (fflush(stdout) != 0) {
        perror("upscale_raw: cannot write");
        result = EXIT_FAILURE;
      }
    }
  }
  free(input);
  free(output);
  flashvsr_stream_close(stream);
  flashvsr_model_close(model);
  return result;
}
