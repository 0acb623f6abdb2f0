#include "stream/state_io.h"

#include "stream_fixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

namespace flashvsr::stream {
namespace {

constexpr std::int64_t kWidth = 32, kHeight = 32;

using Bytes = std::vector<std::byte>;

// `clip` cut at `cuts`: at each, the state goes on in another stream. Finished frames are received after every frame,
// or only when they have to be.
void expect_seamless(const TestModel& model, const StreamSettings& settings, std::int64_t frames,
                     const std::vector<std::int64_t>& cuts, bool receive_early) {
  const Clip clip = wave_clip(frames, kWidth, kHeight);
  const Clip expected = run(model, settings, clip);
  Stream streams[] = {{model.networks, settings}, {model.networks, settings}};
  Stream* stream = &streams[0];
  Clip output;
  for (std::int64_t i = 0; i < frames; ++i) {
    if (std::find(cuts.begin(), cuts.end(), i) != cuts.end()) {
      const Bytes saved = stream->save();
      EXPECT_EQ(saved.size(), stream->saved_size());
      // The other stream still remembers what it was used for before: that must not matter.
      stream = stream == &streams[0] ? &streams[1] : &streams[0];
      stream->restore(saved);
      EXPECT_TRUE(stream->save() == saved) << i;
    }
    while (!stream->send(clip[static_cast<std::size_t>(i)].data(), kWidth * 3)) append(output, receive_all(*stream));
    if (receive_early) append(output, receive_all(*stream));
  }
  stream->drain();
  append(output, receive_all(*stream));
  EXPECT_TRUE(output == expected);
}

TEST(State, RestoredStreamsGoOnBitForBit) {
  const StreamSettings settings = make_settings(kWidth, kHeight, 4);
  expect_seamless(attention_model(), settings, 51, {0, 7, 25, 27, 33, 41, 50}, true);
}

TEST(State, WithFramesThatWait) {
  expect_seamless(attention_model(), make_settings(kWidth, kHeight, 4), 34, {25, 32}, false);
}

TEST(State, WithPaddingAndAShortCache) {
  StreamSettings settings = make_settings(kWidth, kHeight, 3.9);
  settings.kv_chunks = 1;
  expect_seamless(attention_model(), settings, 42, {26, 34}, true);
}

TEST(State, WithTheFullDecoder) {
  StreamSettings settings = make_settings(kWidth, kHeight, 4);
  settings.full_decoder = true;
  expect_seamless(vae_model(), settings, 30, {27}, true);
}

TEST(State, ADrainedStreamKeepsItsQueue) {
  const StreamSettings settings = make_settings(kWidth, kHeight, 4);
  const Clip clip = wave_clip(30, kWidth, kHeight);
  const Clip expected = run(attention_model(), settings, clip);
  Stream first(attention_model().networks, settings);
  Clip output = send_all(first, clip);
  first.drain();
  Stream second(attention_model().networks, settings);
  second.restore(first.save());
  append(output, receive_all(second));
  EXPECT_TRUE(output == expected);
  EXPECT_EQ(second.receive(nullptr, 0), Received::end);
}

TEST(State, ItsSizeDoesNotGrow) {
  Stream stream(attention_model().networks, make_settings(kWidth, kHeight, 4));
  send_all(stream, wave_clip(25, kWidth, kHeight));
  const std::size_t size = stream.saved_size();
  send_all(stream, wave_clip(3 * 8, kWidth, kHeight));
  EXPECT_EQ(stream.saved_size(), size);
}

class Refusal : public testing::Test {
 protected:
  Refusal() : stream_(attention_model().networks, make_settings(kWidth, kHeight, 4)) {
    send_all(stream_, wave_clip(27, kWidth, kHeight));
    saved_ = stream_.save();
  }

  static ErrorCode restore_code(Stream& stream, const Bytes& bytes) {
    try {
      stream.restore(bytes);
    } catch (const Error& error) {
      return error.code();
    }
    ADD_FAILURE() << "restored";
    return ErrorCode::internal;
  }

  static void fix_checksum(Bytes& bytes) {
    const std::uint64_t checksum = state_checksum(std::span<const std::byte>(bytes).subspan(kStateHeaderBytes));
    std::memcpy(&bytes[kStateChecksumOffset], &checksum, sizeof checksum);
  }

  Stream stream_;
  Bytes saved_;
};

TEST_F(Refusal, OtherSettingsAndModels) {
  const StreamSettings same = make_settings(kWidth, kHeight, 4);
  const auto code_with = [&](const std::function<void(StreamSettings&)>& change) {
    StreamSettings settings = same;
    change(settings);
    Stream other(attention_model().networks, settings);
    return restore_code(other, saved_);
  };
  constexpr auto kInvalid = ErrorCode::invalid_argument;
  EXPECT_EQ(code_with([](StreamSettings& s) { s.seed = 1; }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.kv_chunks = 2; }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.input_width = 31; }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.output_height = 127; }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.sparse_ratio = 1.5; }), kInvalid);
  EXPECT_EQ(code_with([](StreamSettings& s) { s.color_fix = ColorFix::none; }), kInvalid);
  Stream other(vae_model().networks, same);
  EXPECT_EQ(restore_code(other, saved_), kInvalid);
}

TEST_F(Refusal, DamagedBytes) {
  Stream other(attention_model().networks, make_settings(kWidth, kHeight, 4));
  EXPECT_EQ(restore_code(other, {}), ErrorCode::format);
  for (const std::size_t size : {std::size_t{1}, kStateHeaderBytes - 1, kStateHeaderBytes, saved_.size() - 1}) {
    EXPECT_EQ(restore_code(other, Bytes(saved_.begin(), saved_.begin() + static_cast<std::ptrdiff_t>(size))),
              ErrorCode::format);
  }
  Bytes longer = saved_;
  longer.push_back(std::byte{0});
  EXPECT_EQ(restore_code(other, longer), ErrorCode::format);
  // Magic, version, payload size, checksum, first and last byte of the payload. (16: the fingerprint.)
  for (const std::size_t position :
       {std::size_t{0}, std::size_t{8}, std::size_t{24}, std::size_t{32}, std::size_t{40}, saved_.size() - 1}) {
    Bytes changed = saved_;
    changed[position] ^= std::byte{0x10};
    EXPECT_EQ(restore_code(other, changed), ErrorCode::format) << position;
  }
  Bytes buffer(saved_.size() - 1);
  EXPECT_THROW(stream_.save(buffer), Error);
}

TEST_F(Refusal, LeavesTheStreamAsItWas) {
  const Clip clip = wave_clip(33, kWidth, kHeight);
  const Clip expected = run(attention_model(), stream_.settings(), clip);
  Bytes changed = saved_;
  changed.back() ^= std::byte{1};
  EXPECT_EQ(restore_code(stream_, changed), ErrorCode::format);
  const Clip rest = run(stream_, Clip(clip.begin() + 27, clip.end()));
  EXPECT_TRUE(rest == Clip(expected.begin() + 21, expected.end()));
}

// Forged bytes with the right checksum: an error or a state that runs, never a crash.
TEST_F(Refusal, ForgedBytes) {
  std::mt19937_64 random(7);
  int refused = 0;
  for (int trial = 0; trial < 100; ++trial) {
    Bytes forged = saved_;
    // Counters and the forms of tensors lie at the start and between the values.
    const std::size_t reach = trial % 2 == 0 ? 64 : forged.size() - kStateHeaderBytes;
    const std::size_t position = kStateHeaderBytes + random() % reach;
    forged[position] = static_cast<std::byte>(random());
    if (trial % 5 == 0) forged.resize(kStateHeaderBytes + random() % (forged.size() - kStateHeaderBytes));
    const std::uint64_t payload = forged.size() - kStateHeaderBytes;
    std::memcpy(&forged[24], &payload, sizeof payload);
    fix_checksum(forged);
    Stream other(attention_model().networks, make_settings(kWidth, kHeight, 4));
    try {
      other.restore(forged);
      if (trial % 10 == 1) send_all(other, wave_clip(8, kWidth, kHeight));
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 40);
}

}  // namespace
}  // namespace flashvsr::stream
