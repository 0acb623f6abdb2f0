// The C++ wrapper, and the example program in C.
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/wait.h>
#include <flashvsr/flashvsr.hpp>

#include <string>
#include <vector>

namespace {

constexpr int kWidth = 20, kHeight = 12, kScale = 2, kFrames = 3;

using flashvsr::api::Error;
using flashvsr::api::Model;
using flashvsr::api::Stream;

std::string golden(const char* set) { return std::string(FLASHVSR_SOURCE_DIR) + "/tests/golden/" + set; }

std::vector<std::uint8_t> frame(int index) {
  std::vector<std::uint8_t> result(kWidth * kHeight * 3);
  for (std::size_t i = 0; i < result.size(); ++i)
    result[i] = static_cast<std::uint8_t>(i + 40u * static_cast<unsigned>(index));
  return result;
}

// All frames, one after the other.
std::vector<std::uint8_t> upscale() {
  const Model model(golden("attention"));
  flashvsr_stream_settings settings = Stream::default_settings();
  settings.input_width = kWidth;
  settings.input_height = kHeight;
  settings.scale = kScale;
  Stream stream(model, settings);
  EXPECT_EQ(stream.width(), kWidth * kScale);
  EXPECT_EQ(stream.height(), kHeight * kScale);
  std::vector<std::uint8_t> output, one(stream.frame_bytes());
  for (int sent = 0;;) {
    const flashvsr_status status = stream.receive(one.data());
    if (status == FLASHVSR_END) return output;
    if (status == FLASHVSR_OK) {
      output.insert(output.end(), one.begin(), one.end());
    } else if (sent < kFrames) {
      EXPECT_EQ(stream.send(frame(sent++).data()), FLASHVSR_OK);
      stream.restore(stream.save());
    } else {
      stream.drain();
    }
  }
}

TEST(Wrapper, Upscales) { EXPECT_EQ(upscale().size(), std::size_t{kWidth * kHeight * 3 * kScale * kScale * kFrames}); }

TEST(Wrapper, ThrowsErrors) {
  try {
    const Model model("/no/such/file.safetensors");
    FAIL() << "opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), FLASHVSR_ERROR_IO);
    EXPECT_NE(std::string(error.what()).find("/no/such/file.safetensors"), std::string::npos);
  }
  const Model model(golden("attention"));
  EXPECT_STREQ(model.info().variant, "v1.1");
  EXPECT_THROW(Stream(model, Stream::default_settings()), Error);
}

#ifdef FLASHVSR_EXAMPLE_PROGRAM
TEST(Example, UpscalesRawFrames) {
  const std::string input = testing::TempDir() + "upscale_raw_input.rgb",
                    output = testing::TempDir() + "upscale_raw_output.rgb";
  FILE* file = fopen(input.c_str(), "wb");
  ASSERT_NE(file, nullptr);
  for (int i = 0; i < kFrames; ++i) {
    const std::vector<std::uint8_t> bytes = frame(i);
    ASSERT_EQ(fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
  }
  ASSERT_EQ(fclose(file), 0);
  const auto run = [&](const std::string& arguments) {
    const std::string command =
        std::string(FLASHVSR_EXAMPLE_PROGRAM) + " " + arguments + " < " + input + " > " + output + " 2> /dev/null";
    return WEXITSTATUS(system(command.c_str()));
  };
  EXPECT_EQ(run("20 12 2 " + golden("attention")), 0);
  file = fopen(output.c_str(), "rb");
  ASSERT_NE(file, nullptr);
  const std::vector<std::uint8_t> expected = upscale();
  std::vector<std::uint8_t> received(expected.size() + 1);
  EXPECT_EQ(fread(received.data(), 1, received.size(), file), expected.size());
  received.pop_back();
  EXPECT_TRUE(received == expected);
  fclose(file);
  EXPECT_EQ(run("20 11 2 " + golden("attention")), 1);  // the last frame is cut short
  EXPECT_EQ(run("20 12 2 /no/such/model"), 1);
  EXPECT_EQ(run("20"), 1);
  remove(input.c_str());
  remove(output.c_str());
}
#endif

}  // namespace
