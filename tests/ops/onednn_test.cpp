// oneDNN's products against the plain reference. Run a second time with DNNL_MAX_CPU_ISA=AVX2 (tests/CMakeLists.txt),
// where oneDNN multiplies no bf16.
#include "op_cases.h"
#include "ops/cpu/onednn_operations.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <string_view>

namespace flashvsr::ops::test {
namespace {

std::unique_ptr<Operations> make_onednn(const CpuSettings& settings) {
  return std::make_unique<OneDnnOperations>(settings);
}

ConvWeights conv_weights(Inputs& in, const Shape& shape, bool bias = true) {
  const std::int64_t terms = shape.elements() / shape[0];
  return {in.parameter(shape, 1.0f / std::sqrt(static_cast<float>(terms))),
          bias ? in.parameter({shape[0]}) : Parameter()};
}

Activation applied(const Inputs& in, Activation activation) { return in.absolute() ? Activation::none : activation; }

// What the shared list does not hold: everything at once, and inputs that are put together in several bands.
std::vector<OpCase> product_cases() {
  std::vector<OpCase> cases;
  for (const auto activation : {Activation::relu, Activation::silu, Activation::gelu_tanh}) {
    for (const DType output : {DType::f32, DType::bf16}) {
      cases.push_back(
          {fmt::format("conv2d of two sources, residual, activation {}, output {}", static_cast<int>(activation),
                       name_of(output)),
           product_tolerance(9 * 20), [=](Inputs& in) {
             const Tensor x = in.tensor({2, 9, 7, 13}), second = in.tensor({2, 9, 7, 7});
             const Tensor residual = in.tensor({2, 9, 7, 19}, 1, 0, output);
             return std::vector{in.operations().conv2d(
                 x, conv_weights(in, {19, 20, 3, 3}),
                 {.second = &second, .residual = &residual, .activation = applied(in, activation), .output = output})};
           }});
    }
  }
  cases.push_back(
      {"conv2d of two sources, stride 2, asymmetric padding", product_tolerance(9 * 9), [](Inputs& in) {
         const Tensor x = in.tensor({1, 9, 11, 4}), second = in.tensor({1, 9, 11, 5});
         return std::vector{in.operations().conv2d(
             x, conv_weights(in, {6, 9, 3, 3}, false),
             {.stride = 2, .pad_top = 0, .pad_bottom = 2, .pad_left = 1, .pad_right = 0, .second = &second})};
       }});
  cases.push_back({"conv2d 5x1", product_tolerance(5 * 3), [](Inputs& in) {
                     return std::vector{
                         in.operations().conv2d(in.tensor({1, 6, 5, 3}), conv_weights(in, {2, 3, 5, 1}),
                                                {.pad_top = 3, .pad_bottom = 1, .pad_left = 0, .pad_right = 0})};
                   }});
  cases.push_back({"conv2d 1x1 with residual and activation", product_tolerance(33), [](Inputs& in) {
                     const Tensor residual = in.tensor({2, 5, 7, 4});
                     return std::vector{in.operations().conv2d(in.tensor({2, 5, 7, 33}),
                                                               conv_weights(in, {4, 33, 1, 1}),
                                                               {.pad_top = 0,
                                                                .pad_bottom = 0,
                                                                .pad_left = 0,
                                                                .pad_right = 0,
                                                                .residual = &residual,
                                                                .activation = applied(in, Activation::relu)})};
                   }});
  cases.push_back({"conv2d of two sources in bands", product_tolerance(9 * 320), [](Inputs& in) {
                     const Tensor x = in.tensor({1, 23, 100, 160}), second = in.tensor({1, 23, 100, 160});
                     const Tensor residual = in.tensor({1, 23, 100, 4});
                     return std::vector{in.operations().conv2d(
                         x, conv_weights(in, {4, 320, 3, 3}),
                         {.second = &second, .residual = &residual, .activation = applied(in, Activation::relu)})};
                   }});
  for (const Padding padding : {Padding::edge, Padding::zeros}) {
    cases.push_back({fmt::format("conv3d in bands, {}", padding == Padding::edge ? "edge" : "zeros"),
                     product_tolerance(36 * 160), [=](Inputs& in) {
                       const Tensor front = in.tensor({2, 11, 160, 160}), x = in.tensor({4, 11, 160, 160});
                       return std::vector{in.operations().conv3d(front, x, conv_weights(in, {3, 160, 4, 3, 3}),
                                                                 {.time_stride = 2, .padding = padding})};
                     }});
  }
  cases.push_back({"conv3d 1x1x1 with front frames", product_tolerance(8), [](Inputs& in) {
                     const Tensor front = in.tensor({1, 3, 4, 8}), x = in.tensor({2, 3, 4, 8});
                     return std::vector{
                         in.operations().conv3d(front, x, conv_weights(in, {5, 8, 1, 1, 1}), {}),
                         in.operations().conv3d({}, x, conv_weights(in, {5, 8, 1, 1, 1}), {.output = DType::f32})};
                   }});
  cases.push_back({"upsample_conv2d in bands", product_tolerance(9 * 120), [](Inputs& in) {
                     return std::vector{in.operations().upsample_conv2d(in.tensor({2, 21, 160, 120}),
                                                                        conv_weights(in, {2, 120, 3, 3}),
                                                                        applied(in, Activation::relu))};
                   }});
  cases.push_back({"upsample_grow_conv2d in bands", product_tolerance(9 * 40 * 40), [](Inputs& in) {
                     const Tensor x = in.tensor({1, 41, 190, 40});
                     const Parameter grow = in.parameter({80, 40, 1, 1}, 0.16f);
                     const ConvWeights w = conv_weights(in, {3, 40, 3, 3});
                     const auto activation = applied(in, Activation::silu);
                     return std::vector{in.operations().upsample_grow_conv2d(x, grow, w, 0, activation),
                                        in.operations().upsample_grow_conv2d(x, grow, w, 1, activation)};
                   }});
  return cases;
}

bool without_bf16() {
  const char* limit = std::getenv("DNNL_MAX_CPU_ISA");
  return limit != nullptr && std::string_view(limit) == "AVX2";
}

TEST(OneDnn, MultipliesInTheTypeThatTheProcessorHas) {
  EXPECT_EQ(OneDnnOperations({.compute = DType::f32}).product_type(), DType::f32);
  const DType bf16_products = OneDnnOperations({.compute = DType::bf16}).product_type();
  if (without_bf16()) {
    EXPECT_EQ(bf16_products, DType::f32);
  }
}

TEST(OneDnn, GivesTheReferencesResultsInF32) {
  expect_equal_to_reference(make_onednn, DType::f32, network_cases());
  expect_equal_to_reference(make_onednn, DType::f32, product_cases());
}

TEST(OneDnn, GivesTheReferencesResultsInBf16) {
  expect_equal_to_reference(make_onednn, DType::bf16, network_cases());
  expect_equal_to_reference(make_onednn, DType::bf16, product_cases());
}

// Weights as a file stores them: bf16, in place where products are bf16.
TEST(OneDnn, TakesWeightsOfAnyType) {
  for (const DType compute : {DType::f32, DType::bf16}) {
    OneDnnOperations tested({.compute = compute});
    for (const std::int64_t tokens : {3, 200}) {
      const Tensor x = tested.from_host(random_tensor({tokens, 48}, 1), compute);
      const Tensor values = tested.cast(tested.from_host(random_tensor({40, 48}, 2)), DType::bf16);
      const LinearWeights stored{Parameter("w", tested.to_host(values)), {}};
      const LinearWeights widened{Parameter("w", tested.to_host(tested.cast(values, DType::f32))), {}};
      const Tensor a = tested.linear(x, stored, {.output = DType::f32});
      const Tensor b = tested.linear(x, widened, {.output = DType::f32});
      for (std::int64_t i = 0; i < a.elements(); ++i) {
        // The same products; the layout of the weight may change the order of their sum.
        ASSERT_NEAR(a.data<float>()[i], b.data<float>()[i], 48 * 0x1p-24 * 48) << i;
      }
    }
  }
}

}  // namespace
}  // namespace flashvsr::ops::test
