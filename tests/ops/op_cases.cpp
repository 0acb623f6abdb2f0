// Cases of element-wise operations, frames and networks.
#include "op_cases.h"

#include <array>
#include <cmath>

namespace flashvsr::ops::test {
namespace {

constexpr auto kF32 = DType::f32;

std::string named(const char* operation, const Shape& shape, const std::string& more = "") {
  return fmt::format("{} {}{}{}", operation, shape.to_string(), more.empty() ? "" : " ", more);
}

const std::array<Shape, 6> kShapes{Shape{1},          Shape{1, 1, 1, 1},   Shape{3, 17},
                                   Shape{2, 5, 7, 3}, Shape{1, 9, 31, 33}, Shape{70, 257}};

struct Layer {
  std::int64_t in, out, tokens;
};

}  // namespace

std::vector<OpCase> elementwise_cases() {
  std::vector<OpCase> cases;
  for (const Shape& shape : kShapes) {
    const auto unary = [&](const char* name, Tolerance tolerance, std::function<Tensor(Operations&, Tensor)> function) {
      cases.push_back({named(name, shape), tolerance, [=](Inputs& in) {
                         const Tensor x = in.tensor(shape, 3.0f);
                         // What these functions lose is relative to their argument.
                         return std::vector{in.absolute() ? x : function(in.operations(), x)};
                       }});
    };
    // Exponentials to a few units in the last place.
    const Tolerance smooth{.f32_roundings = 16, .bf16_roundings = 0.25};
    unary("silu", smooth, [](Operations& o, const Tensor& x) { return o.activation(x, Activation::silu); });
    unary("gelu_tanh", smooth, [](Operations& o, const Tensor& x) { return o.activation(x, Activation::gelu_tanh); });
    unary("soft_clamp", smooth, [](Operations& o, const Tensor& x) { return o.soft_clamp(x, 3.0f); });
    unary("relu", {}, [](Operations& o, const Tensor& x) { return o.activation(x, Activation::relu); });
    unary("clamp", {}, [](Operations& o, const Tensor& x) { return o.clamp(x, -1.0f, 0.5f); });
    unary("cast to bf16", {}, [](Operations& o, const Tensor& x) { return o.cast(x, DType::bf16); });
    unary("cast to f32", {}, [](Operations& o, const Tensor& x) { return o.cast(x, kF32); });
    unary("to_bytes", {}, [](Operations& o, const Tensor& x) { return o.to_bytes(x); });
    const Tolerance sums{.f32_roundings = 2, .bf16_roundings = 0.25};
    for (const DType type : {kF32, DType::bf16}) {
      cases.push_back({named("affine", shape, std::string(name_of(type))), sums, [=](Inputs& in) {
                         const float shift = in.absolute() ? 1.0f : -1.0f;
                         return std::vector{in.operations().affine(in.tensor(shape), 2.0f, shift, type)};
                       }});
    }
    cases.push_back({named("add", shape), sums,
                     [=](Inputs& in) { return std::vector{in.operations().add(in.tensor(shape), in.tensor(shape))}; }});
    cases.push_back({named("add f32 and compute type", shape), sums, [=](Inputs& in) {
                       const Tensor a = in.tensor(shape, 1, 0, kF32), b = in.tensor(shape);
                       return std::vector{in.operations().add(a, b), in.operations().add(b, a)};
                     }});
    cases.push_back({named("subtract", shape), sums, [=](Inputs& in) {
                       const Tensor a = in.tensor(shape), b = in.tensor(shape);
                       return std::vector{in.absolute() ? in.operations().add(a, b) : in.operations().subtract(a, b)};
                     }});
    cases.push_back({named("channel_affine", shape), sums, [=](Inputs& in) {
                       const std::int64_t channels = shape[-1];
                       const Tensor x = in.tensor(shape), scale = in.tensor({channels}, 1, 0, kF32);
                       return std::vector{in.operations().channel_affine(x, scale, in.tensor({channels}, 1, 0, kF32))};
                     }});
    cases.push_back({named("concatenate and store", shape), {}, [=](Inputs& in) {
                       const Tensor a = in.tensor(shape), b = in.tensor(shape);
                       const Tensor parts[] = {a, b, a};
                       const Tensor all = in.operations().concatenate(parts);
                       in.operations().store(all, 2 * shape[0], b);
                       return std::vector{all};
                     }});
  }
  return cases;
}

namespace {

// A picture of other libraries in a tensor of the back end: `offset` bytes in, with `gap` bytes behind each row.
struct ImageCase {
  std::int64_t width, height;
  int bit_depth;
  ChromaSiting siting;
  int matrix;
  bool full_range;
  std::int64_t offset = 0, gap = 0;

  std::int64_t row_bytes() const { return 2 * ((width + 1) / 2) * (bit_depth > 8 ? 2 : 1) + gap; }
  Shape bytes() const { return {offset + row_bytes() * (height + (height + 1) / 2)}; }
  SemiPlanarImage in(const Tensor& memory) const {
    SemiPlanarImage image{.luma_stride = row_bytes(),
                          .chroma_stride = row_bytes(),
                          .width = width,
                          .height = height,
                          .bit_depth = bit_depth,
                          .matrix = matrix,
                          .full_range = full_range,
                          .siting = siting};
    auto* first = memory.mutable_data<std::uint8_t>() + offset;
    image.luma = first;
    image.chroma = first + row_bytes() * height;
    return image;
  }
  std::string name(const char* operation) const {
    return fmt::format("{} {}x{} of {} bits, siting {}, matrix {}{}, {} bytes in, gap {}", operation, width, height,
                       bit_depth, static_cast<int>(siting), matrix, full_range ? " full" : "", offset, gap);
  }
};

std::vector<ImageCase> image_cases() {
  constexpr auto kLeft = ChromaSiting::left, kCenter = ChromaSiting::center, kTopLeft = ChromaSiting::top_left;
  std::vector<ImageCase> cases{{1, 1, 8, kLeft, 1, false},          {1, 1, 10, kCenter, 9, true},
                               {2, 2, 8, kCenter, 5, false},        {3, 1, 8, kLeft, 6, true},
                               {1, 5, 10, kLeft, 1, false},         {4, 2, 8, kLeft, 1, false},
                               {7, 5, 8, kCenter, 9, false},        {7, 5, 10, kLeft, 4, false, 2, 6},
                               {64, 32, 8, kLeft, 1, false},        {64, 33, 8, kCenter, 7, true, 0, 64},
                               {200, 37, 10, kLeft, 9, false},      {200, 36, 10, kCenter, 1, true, 16, 8},
                               {132, 20, 8, kLeft, 1, false, 1, 3}, {131, 21, 8, kLeft, 5, true, 4, 0},
                               {640, 19, 8, kTopLeft, 9, false},    {38, 11, 10, kTopLeft, 9, true}};
  return cases;
}

// Images are used beside what the back end works on, so their values have to be there.
void add_image_cases(std::vector<OpCase>& cases) {
  for (const ImageCase& image : image_cases()) {
    cases.push_back({image.name("read_image"), {}, [=](Inputs& in) {
                       const Tensor memory = in.bytes(image.bytes());
                       in.operations().synchronize();
                       return std::vector{in.operations().read_image(image.in(memory))};
                     }});
    if (image.siting == ChromaSiting::top_left) continue;
    // What lies around the picture must stay as it is.
    cases.push_back({image.name("write_image"), {}, [=](Inputs& in) {
                       const Tensor memory = in.bytes(image.bytes());
                       const Tensor rgb = in.bytes({1, image.height, image.width, 3});
                       in.operations().synchronize();
                       in.operations().write_image(image.in(memory), rgb);
                       return std::vector{memory};
                     }});
  }
}

}  // namespace

std::vector<OpCase> frame_cases() {
  std::vector<OpCase> cases;
  add_image_cases(cases);
  struct Resize {
    std::int64_t height, width, new_height, new_width;
  };
  for (const Resize& r :
       {Resize{1, 1, 1, 1}, Resize{1, 1, 5, 7}, Resize{5, 7, 1, 1}, Resize{13, 17, 52, 68}, Resize{64, 48, 16, 12},
        Resize{33, 65, 100, 31}, Resize{7, 200, 7, 333}, Resize{200, 7, 333, 7}, Resize{1, 40, 40, 1}}) {
    cases.push_back({fmt::format("resize_bicubic {}x{} to {}x{}", r.height, r.width, r.new_height, r.new_width),
                     {},
                     [=](Inputs& in) {
                       return std::vector{in.operations().resize_bicubic(in.bytes({2, r.height, r.width, 3}),
                                                                         r.new_height, r.new_width)};
                     }});
  }
  for (const Shape& shape : {Shape{1, 1, 1, 3}, Shape{2, 5, 7, 3}, Shape{1, 37, 65, 3}, Shape{3, 128, 96, 3},
                             Shape{1, 300, 270, 3}, Shape{1, 600, 20, 3}}) {
    cases.push_back({named("pad_edge and crop", shape), {}, [=](Inputs& in) {
                       Operations& o = in.operations();
                       const Tensor bytes = in.bytes(shape), values = in.tensor(shape);
                       const std::int64_t height = shape[1] + 9, width = shape[2] + 13;
                       const Tensor padded = o.pad_edge(values, height, width);
                       return std::vector{o.pad_edge(bytes, height, width), padded,
                                          o.crop(padded, height / 3, width / 2, height / 2, width / 2)};
                     }});
    cases.push_back({named("to_video", shape), {.f32_roundings = 4, .magnitude = 2.0}, [=](Inputs& in) {
                       return std::vector{in.operations().to_video(in.bytes(shape))};
                     }});
    // A division of two deviations, and sums over all pixels.
    cases.push_back({named("adain", shape), {.f32_roundings = 128, .magnitude = 4.0}, [=](Inputs& in) {
                       const Tensor video = in.tensor(shape, 0.5f, 0.1f, kF32);
                       return std::vector{in.operations().adain(video, in.bytes(shape))};
                     }});
    // Two low bands of ten sums of three terms each.
    cases.push_back({named("wavelet", shape), {.f32_roundings = 40, .magnitude = 2.0}, [=](Inputs& in) {
                       const Tensor video = in.tensor(shape, 0.5f, 0.1f, kF32);
                       return std::vector{in.operations().wavelet(video, in.bytes(shape))};
                     }});
  }
  struct Part {
    Shape frame, tile;
    std::int64_t top, left;
  };
  for (const Part& part :
       {Part{{1, 1, 1, 3}, {1, 1, 1, 3}, 0, 0}, Part{{1, 40, 70, 3}, {1, 24, 32, 3}, 5, 9},
        Part{{1, 40, 70, 3}, {1, 24, 32, 3}, 39, 69}, Part{{1, 33, 300, 5}, {1, 64, 256, 5}, 0, 128}}) {
    cases.push_back({named("add_tile", part.tile), {}, [=](Inputs& in) {
                       Operations& o = in.operations();
                       const Tensor frame = o.zeros(part.frame, kF32);
                       for (int i = 0; i < 2; ++i) {
                         o.add_tile(frame, in.tensor(part.tile, 1, 0, kF32), part.top, part.left,
                                    in.tensor({part.tile[1]}, 1, 0, kF32), in.tensor({part.tile[2]}, 1, 0, kF32));
                       }
                       return std::vector{frame};
                     }});
  }
  struct Depth {
    Shape shape;
    std::int64_t spatial, temporal;
    float soft_clamp;
  };
  for (const Depth& d : {Depth{{4, 16, 32, 3}, 16, 1, 0}, Depth{{4, 24, 40, 3}, 8, 4, 3}, Depth{{6, 3, 5, 3}, 1, 3, 0},
                         Depth{{1, 48, 16, 3}, 16, 1, 3}, Depth{{8, 8, 8, 3}, 8, 4, 0}}) {
    // The pixel's value, and the hyperbolic tangent where there is one.
    const Tolerance tolerance{.f32_roundings = 16, .bf16_roundings = 0.25, .magnitude = 4.0};
    cases.push_back({named("space_to_depth of bytes", d.shape), tolerance, [=](Inputs& in) {
                       return std::vector{
                           in.operations().space_to_depth(in.bytes(d.shape), d.spatial, d.temporal, d.soft_clamp)};
                     }});
    cases.push_back({named("space_to_depth of floats", d.shape), tolerance, [=](Inputs& in) {
                       return std::vector{
                           in.operations().space_to_depth(in.tensor(d.shape), d.spatial, d.temporal, d.soft_clamp)};
                     }});
  }
  cases.push_back({"gaussian_noise", {}, [](Inputs& in) {
                     return std::vector{in.operations().gaussian_noise(7, 3, 2, 5, 9),
                                        in.operations().gaussian_noise(~0ull, 1ll << 33, 1, 1, 17)};
                   }});
  return cases;
}

std::vector<OpCase> network_cases() {
  std::vector<OpCase> cases;
  for (const Layer& l : {Layer{1, 1, 1}, Layer{3, 5, 2}, Layer{64, 128, 130}, Layer{129, 67, 33}, Layer{257, 31, 64},
                         Layer{512, 96, 17}}) {
    const Shape shape{l.tokens, l.in, l.out};
    const float scale = 1.0f / std::sqrt(static_cast<float>(l.in));
    const auto weights = [=](Inputs& in, bool bias) {
      return LinearWeights{in.parameter({l.out, l.in}, scale), bias ? in.parameter({l.out}) : Parameter()};
    };
    for (const auto kind : {Activation::none, Activation::relu, Activation::silu, Activation::gelu_tanh}) {
      cases.push_back({named("linear", shape, fmt::format("activation {}", static_cast<int>(kind))),
                       product_tolerance(l.in), [=](Inputs& in) {
                         const Tensor x = in.tensor({l.tokens, l.in});
                         const LinearWeights w = weights(in, kind != Activation::relu);
                         const auto applied = in.absolute() ? Activation::none : kind;
                         const LinearWeights passing = weights(in, true);
                         return std::vector{in.operations().linear(x, w, {.activation = applied}),
                                            in.operations().linear(x, w, {.activation = applied, .output = kF32}),
                                            in.operations().linear(x, passing, {.activation = applied, .once = true})};
                       }});
    }
    cases.push_back({named("linear", shape, "gate and residual"), product_tolerance(l.in), [=](Inputs& in) {
                       Operations& o = in.operations();
                       const Tensor x = in.tensor({l.tokens, l.in});
                       const LinearWeights w = weights(in, true);
                       const Tensor gate = in.tensor({l.out}, 1, 0, kF32);
                       const Tensor residual = in.tensor({l.tokens, l.out}, 1, 0, kF32);
                       const Tensor rounded = in.tensor({l.tokens, l.out});
                       return std::vector{o.linear(x, w, {.gate = &gate, .residual = &residual}),
                                          o.linear(x, w, {.residual = &rounded}), o.linear(x, w, {.gate = &gate}),
                                          o.linear(x, w, {.gate = &gate, .residual = &rounded, .output = kF32})};
                     }});
    // The gate multiplies what the activation gives.
    cases.push_back({named("linear", shape, "activation, gate and residual"), product_tolerance(l.in), [=](Inputs& in) {
                       const Tensor x = in.tensor({l.tokens, l.in});
                       const LinearWeights w = weights(in, true);
                       const Tensor gate = in.tensor({l.out}, 1, 0, kF32);
                       const Tensor residual = in.tensor({l.tokens, l.out}, 1, 0, kF32);
                       const auto kind = in.absolute() ? Activation::none : Activation::gelu_tanh;
                       return std::vector{
                           in.operations().linear(x, w, {.activation = kind, .gate = &gate, .residual = &residual})};
                     }});
    cases.push_back({named("linear_concatenated", shape), product_tolerance(l.in), [=](Inputs& in) {
                       const Tensor x = in.tensor({l.tokens, l.in});
                       const LinearWeights parts[] = {weights(in, true), weights(in, false), weights(in, true)};
                       return std::vector{in.operations().linear_concatenated(x, parts)};
                     }});
  }
  for (const Shape& shape :
       {Shape{1, 2}, Shape{5, 17}, Shape{130, 256}, Shape{3, 1536}, Shape{9, 1000}, Shape{2, 3080}}) {
    const std::int64_t dim = shape[1];
    // |x| / deviation is below 20 for these inputs, the weights below 5.
    const Tolerance norm{.f32_roundings = 2 * std::sqrt(static_cast<double>(dim)) + 16,
                         .bf16_roundings = 0.1,
                         .magnitude = dim == 2 ? 1000.0 : 100.0};
    cases.push_back({named("layer_norm", shape), norm, [=](Inputs& in) {
                       const Parameter weight = in.parameter({dim}), bias = in.parameter({dim});
                       return std::vector{in.operations().layer_norm(in.tensor(shape, 1, 4), weight, bias),
                                          in.operations().layer_norm(in.tensor(shape, 3, 0, kF32), weight, bias)};
                     }});
    cases.push_back({named("layer_norm_modulated", shape), norm, [=](Inputs& in) {
                       const Tensor scale = in.tensor({dim}, 1, 0, kF32), shift = in.tensor({dim}, 1, 0, kF32);
                       return std::vector{
                           in.operations().layer_norm_modulated(in.tensor(shape, 1, 4), scale, shift),
                           in.operations().layer_norm_modulated(in.tensor(shape, 3, 0, kF32), scale, shift)};
                     }});
    cases.push_back({named("rms_norm", shape), norm, [=](Inputs& in) {
                       return std::vector{in.operations().rms_norm(in.tensor(shape, 3), in.parameter({dim}))};
                     }});
  }
  for (const Shape& shape :
       {Shape{1, 1, 1, 1}, Shape{2, 3, 5, 17}, Shape{1, 8, 9, 96}, Shape{2, 4, 3, 384}, Shape{1, 3, 2, 3072}}) {
    for (const auto kind : {Activation::none, Activation::silu}) {
      const std::int64_t channels = shape[3];
      // A pixel's largest value is at most sqrt(C) after the norm.
      const double root = std::sqrt(static_cast<double>(channels));
      cases.push_back({named("channel_rms_norm", shape, kind == Activation::silu ? "silu" : ""),
                       {.f32_roundings = 2 * root + 16, .bf16_roundings = 0.1, .magnitude = 5 * root},
                       [=](Inputs& in) {
                         const Tensor x = in.tensor(shape), zero = in.operations().zeros(shape, x.dtype());
                         const Parameter gamma = in.parameter({channels, 1, 1, 1});
                         return std::vector{in.operations().channel_rms_norm(x, gamma, kind),
                                            in.operations().channel_rms_norm(zero, gamma, kind)};
                       }});
    }
    if (shape[3] % 2 != 0) continue;
    cases.push_back({named("channels_to_frames", shape), {}, [=](Inputs& in) {
                       return std::vector{in.operations().channels_to_frames(in.tensor(shape))};
                     }});
  }
  struct Conv3d {
    std::int64_t front, frames, height, width, in, out, kt, kh, kw;
    int stride;
    Padding padding;
  };
  for (const Conv3d& c :
       {Conv3d{0, 1, 1, 1, 1, 1, 1, 1, 1, 1, Padding::zeros}, Conv3d{2, 4, 5, 6, 7, 9, 4, 3, 3, 2, Padding::edge},
        Conv3d{2, 4, 1, 1, 3, 5, 4, 3, 3, 2, Padding::edge}, Conv3d{2, 1, 6, 5, 16, 8, 3, 3, 3, 1, Padding::zeros},
        Conv3d{2, 3, 4, 9, 5, 33, 3, 3, 3, 1, Padding::zeros}, Conv3d{1, 4, 3, 3, 12, 12, 3, 1, 1, 2, Padding::zeros},
        Conv3d{0, 5, 2, 7, 6, 3, 3, 1, 1, 2, Padding::zeros}, Conv3d{0, 2, 8, 8, 17, 64, 1, 3, 3, 1, Padding::zeros},
        Conv3d{2, 4, 9, 11, 48, 32, 4, 3, 3, 2, Padding::edge}}) {
    const std::int64_t terms = c.in * c.kt * c.kh * c.kw;
    cases.push_back(
        {fmt::format("conv3d {}+{}x{}x{}x{} to {}, {}x{}x{} /{} {}", c.front, c.frames, c.height, c.width, c.in, c.out,
                     c.kt, c.kh, c.kw, c.stride, c.padding == Padding::edge ? "edge" : "zeros"),
         product_tolerance(terms), [=](Inputs& in) {
           const Tensor front = c.front > 0 ? in.tensor({c.front, c.height, c.width, c.in}) : Tensor();
           const Tensor x = in.tensor({c.frames, c.height, c.width, c.in});
           const float scale = 1.0f / std::sqrt(static_cast<float>(terms));
           const ConvWeights w{in.parameter({c.out, c.in, c.kt, c.kh, c.kw}, scale), in.parameter({c.out})};
           const Conv3dOptions options{.time_stride = c.stride, .padding = c.padding};
           Conv3dOptions f32 = options;
           f32.output = kF32;
           return std::vector{in.operations().conv3d(front, x, w, options),
                              in.operations().conv3d(front, x, {w.weight, {}}, f32)};
         }});
  }
  struct Conv2d {
    std::int64_t frames, height, width, in, second, out, kernel;
    int stride, begin, end;  // padding above and to the left, below and to the right
  };
  for (const Conv2d& c : {Conv2d{1, 1, 1, 1, 0, 1, 1, 1, 0, 0}, Conv2d{1, 1, 1, 5, 5, 3, 3, 1, 1, 1},
                          Conv2d{1, 7, 9, 16, 0, 16, 3, 1, 1, 1}, Conv2d{1, 8, 5, 17, 9, 33, 3, 1, 1, 1},
                          Conv2d{2, 9, 12, 8, 8, 8, 3, 1, 1, 1}, Conv2d{1, 11, 13, 24, 0, 3, 3, 1, 1, 1},
                          Conv2d{3, 8, 10, 6, 0, 12, 3, 2, 0, 1}, Conv2d{1, 5, 6, 40, 0, 24, 1, 1, 0, 0},
                          Conv2d{1, 16, 16, 64, 64, 64, 3, 1, 1, 1}}) {
    const std::int64_t terms = (c.in + c.second) * c.kernel * c.kernel;
    cases.push_back(
        {fmt::format("conv2d {}x{}x{}x{}+{} to {}, {}x{} /{}", c.frames, c.height, c.width, c.in, c.second, c.out,
                     c.kernel, c.kernel, c.stride),
         product_tolerance(terms), [=](Inputs& in) {
           Operations& o = in.operations();
           const Tensor x = in.tensor({c.frames, c.height, c.width, c.in});
           const Tensor second = c.second > 0 ? in.tensor({c.frames, c.height, c.width, c.second}) : Tensor();
           const float scale = 1.0f / std::sqrt(static_cast<float>(terms));
           const ConvWeights w{in.parameter({c.out, c.in + c.second, c.kernel, c.kernel}, scale),
                               in.parameter({c.out})};
           Conv2dOptions options{.stride = c.stride,
                                 .pad_top = c.begin,
                                 .pad_bottom = c.end,
                                 .pad_left = c.begin,
                                 .pad_right = c.end,
                                 .second = c.second > 0 ? &second : nullptr};
           std::vector<Tensor> results{o.conv2d(x, w, options)};
           const Tensor residual = in.tensor(results[0].shape());
           options.residual = &residual;
           options.activation = in.absolute() ? Activation::none : Activation::relu;
           results.push_back(o.conv2d(x, w, options));
           options.residual = nullptr;
           options.output = kF32;
           results.push_back(o.conv2d(x, {w.weight, {}}, options));
           return results;
         }});
  }
  struct Upsample {
    std::int64_t height, width, in, out, frames;
  };
  for (const Upsample& u : {Upsample{1, 1, 1, 1, 1}, Upsample{1, 2, 3, 5, 2}, Upsample{5, 7, 16, 8, 1},
                            Upsample{4, 9, 17, 33, 2}, Upsample{8, 6, 48, 24, 2}}) {
    const std::string sizes = fmt::format("{}x{}x{} to {}, {} frames", u.height, u.width, u.in, u.out, u.frames);
    const float scale = 1.0f / std::sqrt(static_cast<float>(9 * u.in));
    for (const auto kind : {Activation::none, Activation::relu}) {
      cases.push_back({"upsample_grow_conv2d " + sizes + (kind == Activation::relu ? " relu" : ""),
                       product_tolerance(9 * u.in), [=](Inputs& in) {
                         const Tensor x = in.tensor({1, u.height, u.width, u.in});
                         const Parameter grow =
                             in.parameter({u.frames * u.in, u.in, 1, 1}, 1.0f / std::sqrt(static_cast<float>(u.in)));
                         const ConvWeights w{in.parameter({u.out, u.in, 3, 3}, scale),
                                             kind == Activation::relu ? in.parameter({u.out}) : Parameter()};
                         const auto applied = in.absolute() ? Activation::none : kind;
                         std::vector<Tensor> frames;
                         for (std::int64_t frame = 0; frame < u.frames; ++frame) {
                           frames.push_back(in.operations().upsample_grow_conv2d(x, grow, w, frame, applied));
                         }
                         return frames;
                       }});
      cases.push_back({"upsample_conv2d " + sizes + (kind == Activation::relu ? " relu" : ""),
                       product_tolerance(9 * u.in), [=](Inputs& in) {
                         const Tensor x = in.tensor({u.frames, u.height, u.width, u.in});
                         const ConvWeights w{in.parameter({u.out, u.in, 3, 3}, scale), in.parameter({u.out})};
                         const auto applied = in.absolute() ? Activation::none : kind;
                         return std::vector{in.operations().upsample_conv2d(x, w, applied)};
                       }});
    }
  }
  return cases;
}

}  // namespace flashvsr::ops::test
