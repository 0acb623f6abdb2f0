// Public operations on memory, element-wise values and frames; those of the networks are in network_operations.cpp.
#include "ops/operations.h"

#include "ops/operation_checks.h"

namespace flashvsr::ops {
namespace {

// Sizes are counted in int.
constexpr std::int64_t kMostImageSide = 1 << 20;

std::string describe(const Shown& value) {
  if (!value.present) return "nothing";
  const std::string text = fmt::format("{} {}", name_of(value.type), value.shape.to_string());
  return value.name ? fmt::format("{} ({})", text, *value.name) : text;
}

bool is_frames(const Tensor& x, DType type) { return has_rank(x, 4) && x.dtype() == type; }

bool is_rgb(const Tensor& x, DType type) { return is_frames(x, type) && x.dim(3) == 3; }

// What neither a kernel nor a loop should be given.
void check_image(const char* operation, const SemiPlanarImage& image) {
  const std::int64_t bytes = image.sample_bytes();
  const auto is_plane = [&](const void* plane, std::int64_t stride, std::int64_t samples) {
    const bool aligned = reinterpret_cast<std::uintptr_t>(plane) % static_cast<std::uintptr_t>(bytes) == 0;
    return plane != nullptr && aligned && stride >= samples * bytes && stride % bytes == 0;
  };
  require((image.bit_depth == 8 || image.bit_depth == 10) && image.width > 0 && image.height > 0 &&
              image.width <= kMostImageSide && image.height <= kMostImageSide &&
              is_plane(image.luma, image.luma_stride, image.width) &&
              is_plane(image.chroma, image.chroma_stride, 2 * image.chroma_width()),
          "{}: an image of {}x{} with {} bits and strides of {} and {} bytes is none", operation, image.width,
          image.height, image.bit_depth, image.luma_stride, image.chroma_stride);
  (void)luma_weights(image.matrix);
}

bool has_pixels(const Tensor& x) { return has_rank(x, 4) && x.dim(1) > 0 && x.dim(2) > 0; }

}  // namespace

void check(bool condition, const char* operation, const char* rule, std::initializer_list<Shown> values) {
  if (condition) return;
  std::string got;
  for (const Shown& value : values) got += (got.empty() ? "" : ", ") + describe(value);
  fail(ErrorCode::internal, "{}: {}; got {}", operation, rule, got);
}

// ------------------------------------------------------------------------------------------------------- profile

// The device counts blocks in its own time: copies of the last offsets are collected, and read when they are many.
void Operations::count_kept_blocks(const char* operation, const BlockMask& mask, double flops_per_block) {
  constexpr std::size_t kMost = 4096;
  if (!kept_blocks_) kept_blocks_ = do_zeros({static_cast<std::int64_t>(kMost)}, DType::i32);
  const std::int64_t last = mask.offsets.elements() - 1;
  const Tensor kept = mask.offsets.reshaped({last + 1}).sliced(last, last + 1);
  do_store(kept_blocks_, static_cast<std::int64_t>(counted_.size()), kept);
  counted_.push_back({&profile_.entries_.at({profile_.part, operation}), flops_per_block});
  if (counted_.size() == kMost) read_kept_blocks();
}

void Operations::read_kept_blocks() {
  if (counted_.empty()) return;
  const Tensor counts = do_to_host(kept_blocks_);
  for (std::size_t i = 0; i < counted_.size(); ++i) {
    counted_[i].entry->flops += counted_[i].flops_per_block * counts.data<std::int32_t>()[i];
  }
  counted_.clear();
}

const Profile::Entries& Operations::finish_profile() {
  read_kept_blocks();
  kept_blocks_ = {};
  profile_.settle(0);
  return profile_.entries();
}

void Operations::clear_profile() {
  counted_.clear();
  kept_blocks_ = {};
  profile_.clear();
}

// -------------------------------------------------------------------------------------------------------- memory

Tensor Operations::from_host(const Tensor& host, DType type) {
  check(bool(host), "from_host", "a host tensor is needed", {host});
  const bool converts = is_float_type(type) && host.dtype() != DType::i32 && host.dtype() != DType::i64;
  check(type == host.dtype() || converts, "from_host", "floats become f32 or bf16, other types stay as they are",
        {host});
  return measured(*this, "from_host", reading(host), [&] { return do_from_host(host, type); });
}

Tensor Operations::to_host(const Tensor& x) {
  check(bool(x), "to_host", "a tensor is needed", {x});
  return measured(*this, "to_host", reading(x), [&] { return do_to_host(x); });
}

HostCopy Operations::start_to_host(const Tensor& x) {
  check(bool(x), "start_to_host", "a tensor is needed", {x});
  return measured(*this, "to_host", reading(x), [&] { return do_start_to_host(x); });
}

// Counted as a part of their own, as they take time beside everything else.
std::shared_ptr<Copies> Operations::start_copies(CopyDirection direction, std::span<const CopyPair> pairs,
                                                 std::span<const std::shared_ptr<Copies>> after) {
  require(!pairs.empty(), "start_copies: there is nothing to copy");
  if (!profile_.enabled) return do_start_copies(direction, pairs, after, nullptr);
  CopyMarks marks;
  std::shared_ptr<Copies> copies = do_start_copies(direction, pairs, after, &marks);
  if (marks.begin) {
    Work work;
    for (const CopyPair& pair : pairs) work.bytes += bytes_of(pair.from);
    const ProfilePart part(*this, kCopiesPart);
    profile_.add(direction == CopyDirection::to_host ? "to_host" : "to_device", work, std::move(marks.begin),
                 std::move(marks.end));
  }
  return copies;
}

void Operations::finish_copies(const Copies& copies) {
  measured(*this, "wait_for_copies", Work(), [&] { do_finish_copies(copies); });
}

Tensor Operations::constant(const Parameter& parameter, DType type) {
  check(parameter && is_float_type(type), "constant", "a parameter becomes f32 or bf16", {parameter});
  return measured(*this, "constant", Work(), [&] { return do_from_host(parameter.values(), type); });
}

Tensor Operations::zeros(const Shape& shape, DType type) {
  return measured(*this, "zeros", Work(), [&] { return do_zeros(shape, type); });
}

Tensor Operations::cast(const Tensor& x, DType type) {
  check(is_float(x) && is_float_type(type), "cast", "f32 and bf16 only", {x});
  if (x.dtype() == type) return x;
  return measured(*this, "cast", reading(x), [&] { return do_cast(x, type); });
}

Tensor Operations::concatenate(std::span<const Tensor> parts) {
  require(!parts.empty(), "concatenate: nothing to concatenate");
  const Tensor& first = parts[0];
  check(first && first.shape().rank() > 0, "concatenate", "tensors of rank 1 or more are needed", {first});
  for (const Tensor& part : parts) {
    bool same = part && part.dtype() == first.dtype() && part.shape().rank() == first.shape().rank();
    for (std::size_t i = 1; same && i < first.shape().rank(); ++i) {
      same = part.shape().dims()[i] == first.shape().dims()[i];
    }
    check(same, "concatenate", "parts must agree in type and in all but the outermost dimension", {first, part});
  }
  if (parts.size() == 1) return first;
  return measured(*this, "concatenate", reading(parts), [&] { return do_concatenate(parts); });
}

void Operations::store(const Tensor& destination, std::int64_t begin, const Tensor& x) {
  const bool fits = destination && x && destination.dtype() == x.dtype() && x.shape().rank() > 0 &&
                    destination.shape().rank() == x.shape().rank() && begin >= 0 &&
                    begin + x.dim(0) <= destination.dim(0) &&
                    x.elements() * destination.dim(0) == destination.elements() * x.dim(0);
  check(fits, "store", "x must fit into the destination and have its type", {destination, x});
  measured(*this, "store", Work{0, 2 * bytes_of(x)}, [&] { do_store(destination, begin, x); });
}

// -------------------------------------------------------------------------------------------------- element-wise

Tensor Operations::add(const Tensor& a, const Tensor& b) {
  check(is_float(a) && is_float(b) && a.shape() == b.shape(), "add", "two float tensors of one shape are needed",
        {a, b});
  return measured(*this, "add", reading(a, b), [&] { return do_add(a, b, 1.0f); });
}

Tensor Operations::subtract(const Tensor& a, const Tensor& b) {
  check(is_float(a) && is_float(b) && a.shape() == b.shape(), "subtract", "two float tensors of one shape are needed",
        {a, b});
  return measured(*this, "subtract", reading(a, b), [&] { return do_add(a, b, -1.0f); });
}

Tensor Operations::affine(const Tensor& x, float scale, float shift, DType type) {
  check(is_float(x) && is_float_type(type), "affine", "f32 and bf16 only", {x});
  return measured(*this, "affine", reading(x), [&] { return do_affine(x, scale, shift, type); });
}

Tensor Operations::channel_affine(const Tensor& x, const Tensor& scale, const Tensor& shift) {
  check(is_float(x) && x.shape().rank() > 0 && is_vector(scale, x.dim(-1)) && is_vector(shift, x.dim(-1)),
        "channel_affine", "scale and shift must be f32 with one value per channel of x", {x, scale, shift});
  return measured(*this, "channel_affine", reading(x), [&] { return do_channel_affine(x, scale, shift); });
}

Tensor Operations::activation(const Tensor& x, Activation kind) {
  check(is_float(x), "activation", "f32 and bf16 only", {x});
  return measured(*this, "activation", reading(x), [&] { return do_activation(x, kind); });
}

Tensor Operations::soft_clamp(const Tensor& x, float limit) {
  check(is_float(x) && limit > 0, "soft_clamp", "a float tensor and a positive limit are needed", {x});
  return measured(*this, "soft_clamp", reading(x), [&] { return do_soft_clamp(x, limit); });
}

Tensor Operations::clamp(const Tensor& x, float low, float high) {
  check(is_float(x) && low <= high, "clamp", "a float tensor and ordered limits are needed", {x});
  return measured(*this, "clamp", reading(x), [&] { return do_clamp(x, low, high); });
}

// -------------------------------------------------------------------------------------------------------- frames

Tensor Operations::resize_bicubic(const Tensor& frames, std::int64_t height, std::int64_t width) {
  check(is_rgb(frames, DType::u8) && has_pixels(frames) && height > 0 && width > 0, "resize_bicubic",
        "u8 frames [T, h, w, 3] and a size of at least 1x1 are needed", {frames});
  return measured(*this, "resize_bicubic", reading(frames), [&] { return do_resize_bicubic(frames, height, width); });
}

Tensor Operations::pad_edge(const Tensor& frames, std::int64_t height, std::int64_t width) {
  check(has_pixels(frames) && height >= frames.dim(1) && width >= frames.dim(2), "pad_edge",
        "frames [T, H, W, C] that are not larger than the result are needed", {frames});
  if (height == frames.dim(1) && width == frames.dim(2)) return frames;
  return measured(*this, "pad_edge", reading(frames), [&] { return do_pad_edge(frames, height, width); });
}

Tensor Operations::crop(const Tensor& frames, std::int64_t top, std::int64_t left, std::int64_t height,
                        std::int64_t width) {
  check(has_rank(frames, 4) && top >= 0 && left >= 0 && height > 0 && width > 0 && top + height <= frames.dim(1) &&
            left + width <= frames.dim(2),
        "crop", "the crop must lie inside the frames [T, H, W, C]", {frames});
  if (height == frames.dim(1) && width == frames.dim(2)) return frames;
  const double part = static_cast<double>(height * width) / static_cast<double>(frames.dim(1) * frames.dim(2));
  return measured(*this, "crop", Work{0, part * bytes_of(frames)},
                  [&] { return do_crop(frames, top, left, height, width); });
}

void Operations::add_tile(const Tensor& frame, const Tensor& tile, std::int64_t top, std::int64_t left,
                          const Tensor& row_weights, const Tensor& column_weights) {
  const bool frames = has_rank(frame, 4) && has_rank(tile, 4) && frame.dtype() == DType::f32 &&
                      tile.dtype() == DType::f32 && frame.dim(0) == 1 && tile.dim(0) == 1 &&
                      frame.dim(3) == tile.dim(3);
  check(frames && top >= 0 && left >= 0 && top < frame.dim(1) && left < frame.dim(2), "add_tile",
        "an f32 frame [1, H, W, C] and a part of it that begins inside are needed", {frame, tile});
  check(is_vector(row_weights, tile.dim(1)) && is_vector(column_weights, tile.dim(2)), "add_tile",
        "the weights must be f32, one for every row and one for every column", {tile, row_weights, column_weights});
  measured(*this, "add_tile", Work{0, 3 * bytes_of(tile)},
           [&] { do_add_tile(frame, tile, top, left, row_weights, column_weights); });
}

Tensor Operations::space_to_depth(const Tensor& frames, std::int64_t spatial, std::int64_t temporal, float soft_clamp) {
  const bool typed = frames && (frames.dtype() == DType::u8 || is_float(frames));
  check(typed && has_rank(frames, 4) && spatial > 0 && temporal > 0 && frames.dim(0) % temporal == 0 &&
            frames.dim(1) % spatial == 0 && frames.dim(2) % spatial == 0 && soft_clamp >= 0,
        "space_to_depth", "frames [T, H, W, C] of whole groups are needed", {frames});
  return measured(*this, "space_to_depth", reading(frames),
                  [&] { return do_space_to_depth(frames, spatial, temporal, soft_clamp); });
}

Tensor Operations::to_bytes(const Tensor& video) {
  check(is_float(video), "to_bytes", "f32 and bf16 only", {video});
  return measured(*this, "to_bytes", reading(video), [&] { return do_to_bytes(video); });
}

Tensor Operations::to_video(const Tensor& frames) {
  check(frames && frames.dtype() == DType::u8, "to_video", "u8 frames are needed", {frames});
  return measured(*this, "to_video", reading(frames), [&] { return do_to_video(frames); });
}

Tensor Operations::read_image(const SemiPlanarImage& image) {
  check_image("read_image", image);
  return measured(*this, "read_image", Work{0, image.bytes()}, [&] { return do_read_image(image); });
}

void Operations::write_image(const SemiPlanarImage& image, const Tensor& rgb) {
  check_image("write_image", image);
  require(image.siting != ChromaSiting::top_left, "write_image: chroma of images that are written is left or center");
  check(is_rgb(rgb, DType::u8) && rgb.shape() == Shape{1, image.height, image.width, 3}, "write_image",
        "a u8 frame [1, height, width, 3] of the image's size is needed", {rgb});
  measured(*this, "write_image", Work{0, bytes_of(rgb) + image.bytes()}, [&] { do_write_image(image, rgb); });
}

Tensor Operations::adain(const Tensor& video, const Tensor& reference) {
  check(is_rgb(video, DType::f32) && is_rgb(reference, DType::u8) && video.shape() == reference.shape() &&
            has_pixels(video),
        "adain", "f32 video and u8 reference of one shape [T, H, W, 3] are needed", {video, reference});
  return measured(*this, "adain", reading(video, reference), [&] { return do_adain(video, reference); });
}

Tensor Operations::wavelet(const Tensor& video, const Tensor& reference) {
  check(is_rgb(video, DType::f32) && is_rgb(reference, DType::u8) && video.shape() == reference.shape() &&
            has_pixels(video),
        "wavelet", "f32 video and u8 reference of one shape [T, H, W, 3] are needed", {video, reference});
  return measured(*this, "wavelet", reading(video, reference), [&] { return do_wavelet(video, reference); });
}

Tensor Operations::gaussian_noise(std::uint64_t seed, std::int64_t first_latent, std::int64_t latents,
                                  std::int64_t rows, std::int64_t columns) {
  require(first_latent >= 0 && latents > 0 && rows > 0 && columns > 0,
          "gaussian_noise: latents {}..+{} of {}x{} are not a piece of a stream", first_latent, latents, rows, columns);
  return measured(*this, "gaussian_noise", Work(),
                  [&] { return do_gaussian_noise(seed, first_latent, latents, rows, columns); });
}

}  // namespace flashvsr::ops
