#include "weights/model_files.h"

#include "weight_files.h"
#include "weights/safetensors.h"

#include <nlohmann/json.hpp>

namespace flashvsr::weights {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = FLASHVSR_SOURCE_DIR "/tests/golden";

// FNV-1a over name, type, shape and every seventh byte of every tensor, in the order of names.
std::uint64_t fingerprint(const WeightMap& weights) {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&](unsigned char byte) { hash = (hash ^ byte) * 0x100000001b3; };
  for (const auto& [name, parameter] : weights) {
    const std::string label =
        name + " " + std::string(name_of(parameter.dtype())) + " " + parameter.shape().to_string();
    for (const char c : label) add(static_cast<unsigned char>(c));
    const auto* bytes = static_cast<const unsigned char*>(parameter.values().raw());
    for (std::size_t i = 0; i < parameter.values().bytes(); i += 7) add(bytes[i]);
  }
  return hash;
}

// A copy of a golden set's weights that a test may damage.
class ModelFolder {
 public:
  explicit ModelFolder(const char* set) {
    for (const char* file : {kDitFile, kProjectorFile, kDecoderFile, kVaeFile, kPromptFile, "config.json"}) {
      if (fs::exists(kGolden / set / file)) fs::copy_file(kGolden / set / file, path() / file);
    }
  }
  const fs::path& path() const { return folder_.path(); }

  // Rewrites the DiT file after `change` has seen its tensors.
  void change_dit(const std::function<void(std::map<std::string, Tensor>&)>& change) const {
    std::map<std::string, Tensor> tensors;
    for (const auto& [name, parameter] : read_safetensors(path() / kDitFile).tensors) {
      tensors.emplace(name, parameter.values());
    }
    change(tensors);
    write_safetensors(path() / kDitFile, tensors, {}, true);
  }

  void change_config(const std::function<void(nlohmann::json&)>& change) const {
    nlohmann::json config = nlohmann::json::parse(read_file(path() / "config.json"));
    change(config);
    write_file(path() / "config.json", config.dump());
  }

  void expect_error(ErrorCode code, const std::vector<std::string>& parts, std::optional<Variant> variant = {}) const {
    weights::expect_error([&] { load_model(path(), variant); }, code, parts);
  }

 private:
  TemporaryFolder folder_;
};

struct Pinned {
  const char* set;
  std::uint64_t dit, projector, decoder, vae, prompt;
};
// As PyTorch 1.13 reads the files; an empty map has the offset basis.
constexpr Pinned kPinned[] = {
    {"v1", 0xfa51715fcb43d5c6, 0xe4e55f608e1ab369, 0xd13cdbce92d664b4, 0xaf1d358f1b1fbe4f, 0x1fec465a7f993d75},
    {"v1.1", 0x9b58e7a3b59b3574, 0x71c516ca7a25ac1f, 0xed3150716bf1ffb4, 0xfd866e1f35fb5a07, 0x0715fab86b21f556},
    {"attention", 0xa497b7e553248d06, 0xbfefbdc02243b878, 0x31d32bb89aca85cd, 0xcbf29ce484222325, 0x39d22b4961bfe240}};

TEST(ModelFiles, GoldenSetsAreWhatPyTorchReads) {
  for (const Pinned& pinned : kPinned) {
    const ModelFiles files = load_model(kGolden / pinned.set, {});
    EXPECT_EQ(fingerprint(files.dit), pinned.dit) << pinned.set;
    EXPECT_EQ(fingerprint(files.projector), pinned.projector) << pinned.set;
    EXPECT_EQ(fingerprint(files.decoder), pinned.decoder) << pinned.set;
    EXPECT_EQ(fingerprint(files.vae), pinned.vae) << pinned.set;
    EXPECT_EQ(fingerprint({{"prompt", files.prompt}}), pinned.prompt) << pinned.set;
  }
  const ModelFiles files = load_model(kGolden / "v1", {});
  const auto values = [](const Parameter& parameter) { return parameter.to_f32(); };
  EXPECT_EQ(values(files.vae.at("decoder.head.2.bias")),
            (std::vector<float>{0.02099609375f, 0.0198974609375f, 0.078125f}));
  const Parameter& conv = files.projector.at("conv2.weight");
  ASSERT_EQ(conv.shape(), Shape({24, 16, 4, 3, 3}));
  const std::size_t at = ((((3 * 16 + 5) * 4) + 2) * 3 + 1) * 3;
  EXPECT_EQ(values(conv).at(at), -0.016357421875f);
  EXPECT_EQ(values(conv).at(at + 1), -0.0012664794921875f);
  EXPECT_EQ(values(conv).at(at + 2), 0.0291748046875f);
}

TEST(ModelFiles, SizesComeFromTheTensors) {
  const ModelConfig v1 = load_model(kGolden / "v1", {}).config;
  EXPECT_EQ(to_json(v1),
            nlohmann::json::parse(R"({"name":"v1","variant":"v1","dim":256,"num_heads":2,"ffn_dim":128,"num_layers":2,
              "text_dim":32,"text_tokens":16,"freq_dim":64,"lq_hidden":[16,24],"tc_channels":[16,12,8,8],"vae_dim":4,
              "scale":4,"sparse_ratio":2.0,"local_range":3,"kv_ratio":3,"local_window":"truncated","color_fix":"adain"})"));
  const ModelFolder folder("attention");
  fs::remove(folder.path() / "config.json");
  const ModelConfig config = load_model(folder.path(), Variant::v1_1).config;
  EXPECT_EQ(config.heads, 2);  // heads of 128 where nothing says otherwise
  EXPECT_EQ(config.layers, 3);
  EXPECT_EQ(config.local_range, 11);
  EXPECT_EQ(config.vae_dim, 0);
}

TEST(ModelFiles, RefusesToGuessTheVariant) {
  const ModelFolder folder("v1");
  folder.change_config([](nlohmann::json& config) { config.erase("variant"); });
  folder.expect_error(ErrorCode::invalid_argument, {"--variant v1 or --variant v1.1", "ghosting"});
  EXPECT_EQ(load_model(folder.path(), Variant::v1).config.variant, Variant::v1);
  EXPECT_EQ(load_model(folder.path(), Variant::v1_1).config.variant, Variant::v1_1);
  fs::remove(folder.path() / "config.json");
  folder.expect_error(ErrorCode::invalid_argument, {folder.path().string(), "--variant v1 or --variant v1.1"});
}

TEST(ModelFiles, RefusesAVariantThatDisagrees) {
  const ModelFolder folder("v1");
  folder.expect_error(ErrorCode::invalid_argument, {"config.json", "are v1, but v1.1 was asked for"}, Variant::v1_1);
  folder.change_config([](nlohmann::json& config) { config["variant"] = "plus-turbo"; });
  folder.expect_error(ErrorCode::unsupported, {"config.json", "\"plus-turbo\"", "\"v1\" and \"v1.1\""});
}

TEST(ModelFiles, NamesMissingAndUnknownTensors) {
  const ModelFolder folder("v1.1");
  const std::string file = (folder.path() / kDitFile).string();
  folder.change_dit([](auto& tensors) { tensors.erase("blocks.1.self_attn.norm_q.weight"); });
  folder.expect_error(ErrorCode::format, {file, "\"blocks.1.self_attn.norm_q.weight\" is missing"});
  folder.change_dit([](auto& tensors) {
    tensors.emplace("blocks.1.self_attn.norm_q.weight", allocate_host({128}, DType::bf16));
    tensors.emplace("blocks.1.self_attn.rope", allocate_host({128}, DType::bf16));
  });
  folder.expect_error(ErrorCode::format, {file, "\"blocks.1.self_attn.rope\" is not part of this network"});
  folder.change_dit([](auto& tensors) {
    tensors.erase("blocks.1.self_attn.rope");
    tensors.erase("patch_embedding.weight");
  });
  folder.expect_error(ErrorCode::format, {file, "\"patch_embedding.weight\" is missing"});
}

TEST(ModelFiles, NamesWrongShapesAndTypes) {
  const ModelFolder folder("v1.1");
  folder.change_dit([](auto& tensors) { tensors["blocks.2.ffn.2.weight"] = allocate_host({128, 512}, DType::bf16); });
  folder.expect_error(ErrorCode::format, {"\"blocks.2.ffn.2.weight\": expected [128, 256], found [128, 512]"});
  folder.change_dit([](auto& tensors) { tensors["blocks.2.ffn.2.weight"] = allocate_host({128, 256}, DType::i32); });
  folder.expect_error(ErrorCode::format, {"\"blocks.2.ffn.2.weight\": expected floating point values, found I32"});
  folder.change_dit([](auto& tensors) { tensors["blocks.2.ffn.2.weight"] = allocate_host({128, 256}, DType::f32); });
  EXPECT_EQ(load_model(folder.path(), {}).dit.at("blocks.2.ffn.2.weight").dtype(), DType::f32);
  folder.change_dit([](auto& tensors) { tensors["patch_embedding.weight"] = allocate_host({128, 64}, DType::bf16); });
  folder.expect_error(ErrorCode::format, {"\"patch_embedding.weight\": expected 5 dimensions, found [128, 64]"});
  folder.change_dit([](auto& tensors) {
    tensors["patch_embedding.weight"] = allocate_host({0, 16, 1, 2, 2}, DType::bf16);
  });
  folder.expect_error(ErrorCode::format, {"\"patch_embedding.weight\" is empty"});
}

TEST(ModelFiles, NetworksMustFitEachOther) {
  const ModelFolder folder("v1.1");  // width 128; the projector of v1 is made for 256
  fs::copy_file(kGolden / "v1" / kProjectorFile, folder.path() / kProjectorFile, fs::copy_options::overwrite_existing);
  folder.expect_error(ErrorCode::format, {kProjectorFile, "\"linear_layers.0.bias\": expected [128], found [256]"});
}

TEST(ModelFiles, NamesMissingFiles) {
  for (const char* file : {kDitFile, kProjectorFile, kDecoderFile, kPromptFile}) {
    const ModelFolder folder("attention");
    fs::remove(folder.path() / file);
    folder.expect_error(ErrorCode::io, {(folder.path() / file).string() + ": is missing"});
  }
  const ModelFolder folder("v1");
  fs::remove(folder.path() / kDecoderFile);  // the Wan VAE alone can decode
  EXPECT_EQ(load_model(folder.path(), {}).config.tc_channels, (std::array<std::int64_t, 4>{}));
  fs::remove(folder.path() / kVaeFile);
  folder.expect_error(ErrorCode::io, {kDecoderFile, "is missing"});
  expect_error([&] { load_model(folder.path() / "none", {}); }, ErrorCode::io, {"none: cannot be opened"});
}

TEST(ModelFiles, SwappedFilesAreNamed) {
  const ModelFolder folder("attention");
  fs::copy_file(folder.path() / kDecoderFile, folder.path() / kPromptFile, fs::copy_options::overwrite_existing);
  folder.expect_error(ErrorCode::format, {kPromptFile, "holds a dictionary"});
  fs::copy_file(kGolden / "attention" / kPromptFile, folder.path() / kDecoderFile,
                fs::copy_options::overwrite_existing);
  fs::copy_file(kGolden / "attention" / kPromptFile, folder.path() / kPromptFile, fs::copy_options::overwrite_existing);
  folder.expect_error(ErrorCode::format, {kDecoderFile, "holds one tensor alone"});
  fs::copy_file(kGolden / "attention" / kDecoderFile, folder.path() / kProjectorFile,
                fs::copy_options::overwrite_existing);
  fs::copy_file(kGolden / "attention" / kDecoderFile, folder.path() / kDecoderFile,
                fs::copy_options::overwrite_existing);
  folder.expect_error(ErrorCode::format, {kProjectorFile, "\"conv1.weight\" is missing"});
}

TEST(ModelFiles, ChecksTheConfiguration) {
  const auto refused = [](const char* key, const nlohmann::json& value, const std::string& part) {
    const ModelFolder folder("v1.1");
    folder.change_config([&](nlohmann::json& config) { config[key] = value; });
    folder.expect_error(key == std::string("variant") ? ErrorCode::unsupported : ErrorCode::format,
                        {"config.json", part});
  };
  refused("num_heads", 3, "\"num_heads\" of 3");
  refused("num_heads", 128, "even");
  refused("num_heads", "one", "\"num_heads\" must be a whole number from 1");
  refused("num_heads", 18446744073709551615u, "must be a whole number");
  refused("dim", 256, "\"dim\" is 256, but the tensors are made for 128");
  refused("num_layers", 2, "\"num_layers\" is 2, but the tensors are made for 3");
  refused("lq_hidden", {16, 32}, "\"lq_hidden\" is 32");
  refused("lq_hidden", 16, "a list of 2 numbers");
  refused("tc_channels", {1, 2, 3}, "a list of 4 numbers");
  refused("text_tokens", 17, "\"text_tokens\" is 17, but");
  refused("sparse_ratio", 0, "above 0");
  refused("sparse_ratio", "2", "above 0");
  refused("local_range", 0, "from 1");
  refused("local_window", "wide", "one of truncated, preserved, not \"wide\"");
  refused("color_fix", "vivid", "one of adain, wavelet, none");
  refused("scale", 2.5, "whole number");
  refused("name", "two\nlines", "one line");
  refused("variant", 1, "variant 1");
  const ModelFolder folder("v1.1");
  write_file(folder.path() / "config.json", "{");
  folder.expect_error(ErrorCode::format, {"config.json", "not valid JSON at byte"});
  write_file(folder.path() / "config.json", "[1]");
  folder.expect_error(ErrorCode::format, {"config.json", "not a JSON object"});
  write_file(folder.path() / "config.json", std::string(900'000, '['));
  folder.expect_error(ErrorCode::format, {"config.json", "not valid JSON"});
  write_file(folder.path() / "config.json", std::string(2'000'000, ' '));
  folder.expect_error(ErrorCode::format, {"config.json", "2000000 bytes"});
}

TEST(PackedModel, IsEqualToItsFolder) {
  const TemporaryFolder folder;
  for (const Pinned& pinned : kPinned) {
    const ModelFiles files = load_model(kGolden / pinned.set, {});
    const fs::path packed = folder.path() / (std::string(pinned.set) + ".safetensors");
    write_packed(files, packed, false);
    const ModelFiles read = load_model(packed, {});
    EXPECT_EQ(to_json(read.config), to_json(files.config));
    EXPECT_EQ(fingerprint(read.dit), pinned.dit);
    EXPECT_EQ(fingerprint(read.projector), pinned.projector);
    EXPECT_EQ(fingerprint(read.decoder), pinned.decoder);
    EXPECT_EQ(fingerprint(read.vae), pinned.vae);
    EXPECT_EQ(fingerprint({{"prompt", read.prompt}}), pinned.prompt);
    for (const auto& [name, parameter] : read.dit) {
      EXPECT_EQ(parameter.values().storage(), read.dit.begin()->second.values().storage()) << name;
    }
    EXPECT_NO_THROW(load_model(packed, files.config.variant));
    const Variant other = files.config.variant == Variant::v1 ? Variant::v1_1 : Variant::v1;
    expect_error([&] { load_model(packed, other); }, ErrorCode::invalid_argument, {"was asked for"});
    expect_error([&] { write_packed(files, packed, false); }, ErrorCode::io, {"exists already"});
    // A model can be packed over the file that it was read from.
    write_packed(read, packed, true);
    EXPECT_EQ(fingerprint(load_model(packed, {}).dit), pinned.dit);
    EXPECT_EQ(fingerprint(read.dit), pinned.dit);
  }
}

TEST(PackedModel, IsCheckedAsStrictly) {
  const TemporaryFolder folder;
  const fs::path packed = folder.path() / "model.safetensors", damaged = folder.path() / "damaged.safetensors";
  write_packed(load_model(kGolden / "attention", {}), packed, false);
  const SafetensorsFile file = read_safetensors(packed);
  const std::string config = file.metadata.at("flashvsr");
  const auto refused = [&](const std::function<void(std::map<std::string, Tensor>&)>& change,
                           const std::map<std::string, std::string>& metadata, const std::vector<std::string>& parts) {
    std::map<std::string, Tensor> tensors;
    for (const auto& [name, parameter] : file.tensors) tensors.emplace(name, parameter.values());
    change(tensors);
    write_safetensors(damaged, tensors, metadata, true);
    expect_error([&] { load_model(damaged, {}); }, ErrorCode::format, parts);
  };
  const auto nothing = [](auto&) {};
  refused(nothing, {}, {damaged.string(), "not a packed model"});
  refused(nothing, {{"flashvsr", "{"}}, {damaged.string(), "not valid JSON"});
  refused([](auto& tensors) { tensors.erase("prompt"); }, {{"flashvsr", config}}, {"\"prompt\" is missing"});
  refused([](auto& tensors) { tensors.erase("dit.head.head.bias"); }, {{"flashvsr", config}},
          {damaged.string(), "\"dit.head.head.bias\" is missing"});
  refused([](auto& tensors) { tensors["decoder.decoder.26.bias"] = allocate_host({4}, DType::f32); },
          {{"flashvsr", config}}, {"\"decoder.decoder.26.bias\": expected [3], found [4]"});
  refused([](auto& tensors) { tensors["turbo.x"] = allocate_host({4}, DType::f32); }, {{"flashvsr", config}},
          {"\"turbo.x\" belongs to no network"});
  refused([](auto& tensors) { tensors["prompt"] = allocate_host({16}, DType::f32); }, {{"flashvsr", config}},
          {"\"prompt\": expected 2 dimensions"});
  refused(
      [](auto& tensors) {
        tensors["prompt"] = allocate_host({16, 31}, DType::f32);
      },
      {{"flashvsr", config}}, {"\"prompt\": expected [16, 32], found [16, 31]"});
}

TEST(Variants, AreWrittenAsPublished) {
  EXPECT_EQ(to_string(Variant::v1), "v1");
  EXPECT_EQ(to_string(Variant::v1_1), "v1.1");
  EXPECT_EQ(parse_variant("v1.1"), Variant::v1_1);
  EXPECT_EQ(parse_variant("v1"), Variant::v1);
  for (const char* text : {"", "V1", "1.1", "v1.10", "v2"}) EXPECT_EQ(parse_variant(text), std::nullopt) << text;
}

}  // namespace
}  // namespace flashvsr::weights
