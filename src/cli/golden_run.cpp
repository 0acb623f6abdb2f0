#include "cli/golden_run.h"

#include "cli/golden_frames.h"
#include "cli/host_layout.h"
#include "core/convert.h"
#include "core/error.h"
#include "models/dit.h"
#include "models/lr_projector.h"
#include "models/tiny_decoder.h"
#include "models/wan_vae.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace flashvsr::cli {
namespace {

constexpr std::int64_t kFirstLatents = 6, kLaterLatents = 2, kFirstWindows = 3;

std::string step_name(std::int64_t step, const char* kind) { return fmt::format("step{}.{}", step, kind); }

Tensor host_integer(std::int64_t value) {
  Tensor result = allocate_host({1}, DType::i64);
  *result.mutable_data<std::int64_t>() = value;
  return result;
}

Tensor rounded_to_bf16(Tensor x) {
  float* values = x.mutable_data<float>();
  std::transform(values, values + x.elements(), values, round_to_bf16);
  return x;
}

// Golden sets store -1e30 for the -inf of blocks outside the local window.
Tensor finite_scores(Tensor scores) {
  float* values = scores.mutable_data<float>();
  std::transform(values, values + scores.elements(), values, [](float x) { return std::max(x, -1e30f); });
  return scores;
}

class Run {
 public:
  Run(ops::Operations& operations, const weights::ModelFiles& files, const GoldenSet& set, bool own_masks)
      : ops_(operations), files_(files), set_(set), config_(set.config), own_masks_(own_masks) {}

  GoldenRun result() {
    check_inputs();
    run_stream();
    if (files_.config.vae_dim > 0) run_vae();
    if (config_.attention_probe) run_attention_alone();
    return std::move(result_);
  }

 private:
  std::int64_t window_blocks() const { return config_.height / 128 * (config_.width / 128); }

  void check_inputs() const {
    const Shape needed{1, 16, (set_.schedule_frames() - 1) / 4, config_.height / 8, config_.width / 8};
    if (!(set_.at("noise").shape() == needed)) {
      fail(ErrorCode::format, "{}: noise has shape {}; {} LR frames and {}x{} pixels need {}", set_.directory.string(),
           set_.at("noise").shape().to_string(), set_.at("lr_frames").dim(0), config_.width, config_.height,
           needed.to_string());
    }
    if (!config_.attention_probe) return;
    const AttentionProbe& probe = *config_.attention_probe;
    const bool inside = probe.step < set_.steps() && probe.layer < files_.config.layers &&
                        std::all_of(probe.heads.begin(), probe.heads.end(),
                                    [&](std::int64_t head) { return head < files_.config.heads; });
    if (!inside) {
      fail(ErrorCode::format, "{}: attention_op of config.json lies outside of {} steps, {} layers and {} heads",
           set_.directory.string(), set_.steps(), files_.config.layers, files_.config.heads);
    }
  }

  void run_stream() {
    const models::LRProjector projector(ops_, files_);
    const models::DiT dit(ops_, files_);
    const models::TinyDecoder decoder(ops_, files_);
    const UpscaledClip clip(ops_, set_);
    const std::int64_t frame_count = set_.at("lr_frames").dim(0);
    result_.outputs["upscaled_frame_0"] = clip.host_frame(0);
    result_.outputs["upscaled_frame_last"] = clip.host_frame(frame_count - 1);
    const Tensor prompt = host_f32(files_.prompt.values());
    result_.outputs["context"] =
        prompt.reshaped({1, prompt.elements() / files_.config.text_dim, files_.config.text_dim});
    result_.outputs["time_embedding"] = fetch_f32(ops_, dit.time_embedding());
    result_.outputs["time_projection"] = fetch_f32(ops_, dit.time_projection()).reshaped({1, 6, files_.config.dim});

    const Tensor noise = permuted(host_f32(set_.at("noise")), {0, 2, 3, 4, 1})
                             .reshaped({(set_.schedule_frames() - 1) / 4, config_.height / 8, config_.width / 8, 16});
    models::ProjectorState projector_state;
    models::TinyDecoderState decoder_state;
    ops::KvCache cache = ops::make_kv_cache(ops_, files_.config.layers, window_blocks(), files_.config.dim,
                                            config_.kv_ratio, kFirstWindows);
    FrameCollector collector(ops_, set_);
    projector.start(projector_state, clip.frames(0, 1));
    for (std::int64_t step = 0; step < set_.steps(); ++step) {
      const std::int64_t latents = step == 0 ? kFirstLatents : kLaterLatents;
      const std::int64_t first_latent = step == 0 ? 0 : 2 * step + 4;
      const std::int64_t first_frame = step == 0 ? 1 : 8 * step + 17;
      std::vector<Tensor> parts;
      for (std::int64_t i = 0; i < latents; ++i) {
        parts.push_back(projector.push(projector_state, clip.frames(first_frame + 4 * i, first_frame + 4 * i + 4)));
      }
      const Tensor lq_latents = ops_.concatenate(parts);
      const Tensor chunk_noise = ops_.from_host(noise.sliced(first_latent, first_latent + latents), DType::f32);
      const Tensor velocity = dit.run_chunk(cache, chunk_noise, lq_latents, first_latent, attention_settings(),
                                            hooks(step, latents, first_latent));
      result_.outputs[step_name(step, "lq_latents.every11th")] = every_row(fetch_f32(ops_, lq_latents), 11);
      result_.outputs[step_name(step, "velocity")] =
          permuted(fetch_f32(ops_, velocity), {3, 0, 1, 2})
              .reshaped({1, 16, latents, config_.height / 8, config_.width / 8});
      result_.outputs[step_name(step, "cache_rows")] = host_integer(cache.kept_blocks());

      const Tensor chunk_latents = ops_.subtract(chunk_noise, velocity);
      for (std::int64_t i = 0; i < latents; ++i) {
        for (const Tensor& frame :
             decoder.push(decoder_state, clip.condition(first_latent + i), chunk_latents.sliced(i, i + 1))) {
          collector.add(clip, frame);
        }
      }
    }
    collector.finish(result_.outputs);
  }

  models::AttentionSettings attention_settings() const {
    return {.locality = {.range = config_.local_range, .window = config_.local_window},
            .selection = {.topk_ratio = config_.topk_ratio}};
  }

  models::DiTHooks hooks(std::int64_t step, std::int64_t latents, std::int64_t first_latent) {
    models::DiTHooks hooks;
    hooks.choose_mask = [this, step](std::size_t layer, const Tensor& scores, const ops::BlockMask& own) {
      return choose_mask(mask_name(step, static_cast<std::int64_t>(layer)), scores, own);
    };
    if (config_.attention_probe && config_.attention_probe->step == step) {
      hooks.attention_inputs = [this](std::size_t layer, const Tensor& q, const ops::KeyValueView& keys) {
        if (static_cast<std::int64_t>(layer) == config_.attention_probe->layer) keep_attention_inputs(q, keys);
      };
    }
    if (step == 0) {
      const ops::TokenGrid grid{.latents = latents,
                                .rows = config_.height / 16,
                                .columns = config_.width / 16,
                                .first_latent = first_latent,
                                .heads = files_.config.heads};
      hooks.after_block = [this, grid](std::size_t layer, const Tensor& hidden) {
        if (layer != 0) return;
        result_.outputs["step0.hidden.after_block0.every37th"] =
            every_row(windows_to_raster(fetch_f32(ops_, hidden), grid), 37);
      };
    }
    return hooks;
  }

  ops::BlockMask choose_mask(const std::string& name, const Tensor& scores, const ops::BlockMask& own) {
    const Tensor own_mask = ops_.to_host(own.mask);
    result_.outputs[name] = own_mask;
    const auto found = set_.tensors.find(name);
    if (found == set_.tensors.end() || found->second.dtype() != DType::u8 ||
        !(found->second.shape() == own_mask.shape())) {
      return own;  // the row of this mask fails; the rest of the run can still be judged
    }
    const MaskComparison comparison =
        compare_masks(own_mask, found->second, fetch_f32(ops_, scores), window_blocks(), config_.topk_ratio);
    result_.masks[name] = comparison;
    return own_masks_ && comparison.beyond_near_ties > 0 ? own : ops_.block_mask(found->second);
  }

  void keep_attention_inputs(const Tensor& q, const ops::KeyValueView& keys) {
    const AttentionProbe& probe = *config_.attention_probe;
    const auto keep = [&](const char* name, const Tensor& tokens) {
      result_.outputs[name] = rounded_to_bf16(select_heads(tokens, files_.config.heads, probe.heads));
    };
    keep("attention.q", fetch_f32(ops_, q));
    std::vector<Tensor> k, v;
    for (const std::int64_t slot : keys.slots) {
      k.push_back(keys.k.sliced(slot * keys.window_blocks, (slot + 1) * keys.window_blocks));
      v.push_back(keys.v.sliced(slot * keys.window_blocks, (slot + 1) * keys.window_blocks));
    }
    keep("attention.k", fetch_f32(ops_, ops_.concatenate(k)));
    keep("attention.v", fetch_f32(ops_, ops_.concatenate(v)));
  }

  // The attention operations alone, from the exact q, k and v of the set.
  void run_attention_alone() {
    if (!set_.has("attention.q") || !set_.has("attention.k") || !set_.has("attention.v")) return;
    const auto heads = static_cast<std::int64_t>(config_.attention_probe->heads.size());
    const std::int64_t dim = heads * (files_.config.dim / files_.config.heads);
    const auto tokens = [&](const char* name) {
      const Tensor& stored = set_.at(name);
      const std::int64_t blocks = stored.shape().rank() == 3 ? stored.dim(0) : 0;
      if (blocks == 0 || blocks % window_blocks() != 0 || stored.dim(1) != ops::kBlockTokens || stored.dim(2) != dim) {
        fail(ErrorCode::format, "{}: {} has shape {}; attention_op needs [n x {}, 128, {}]", set_.directory.string(),
             name, stored.shape().to_string(), window_blocks(), dim);
      }
      return host_f32(stored).reshaped({blocks * ops::kBlockTokens, dim});
    };
    const Tensor q = tokens("attention.q"), k = tokens("attention.k"), v = tokens("attention.v");
    if (!(k.shape() == v.shape())) {
      fail(ErrorCode::format, "{}: attention.k and attention.v differ in shape", set_.directory.string());
    }
    const ops::TokenGrid grid{.latents = q.dim(0) / ops::kBlockTokens / window_blocks() * ops::kWindowLatents,
                              .rows = config_.height / 16,
                              .columns = config_.width / 16,
                              .first_latent = 0,
                              .heads = heads};
    const DType type = ops_.compute_type();
    const ops::KeyValueView keys = ops::plain_view(ops_.from_host(k, type), ops_.from_host(v, type),
                                                   ops_.from_host(block_means(k)), window_blocks());
    const models::AttentionSettings settings = attention_settings();
    const Tensor scores = ops_.block_scores(ops_.from_host(block_means(q)), keys, grid, settings.locality);
    ops::BlockMask mask = ops_.select_blocks(scores, window_blocks(), settings.selection);
    const std::string name = "attention.block_mask";
    const Tensor host_scores = fetch_f32(ops_, scores);
    result_.outputs[name] = ops_.to_host(mask.mask);
    const auto given = set_.tensors.find(name);
    if (given != set_.tensors.end() && given->second.dtype() == DType::u8 &&
        given->second.shape() == result_.outputs[name].shape()) {
      result_.masks[name] =
          compare_masks(result_.outputs[name], given->second, host_scores, window_blocks(), config_.topk_ratio);
      mask = ops_.block_mask(given->second);
    }
    result_.outputs["attention.scores"] = finite_scores(host_scores);
    result_.outputs["attention.out"] =
        fetch_f32(ops_, ops_.sparse_attention(ops_.from_host(q, type), keys, mask, heads))
            .reshaped({q.dim(0) / ops::kBlockTokens, ops::kBlockTokens, dim});
  }

  // [1, C, t, h, w] of the set as [t, h, w, C].
  Tensor video_input(const char* name, std::int64_t channels, std::int64_t multiple) const {
    const Tensor& stored = set_.at(name);
    const Shape& shape = stored.shape();
    if (shape.rank() != 5 || shape[0] != 1 || shape[1] != channels || shape[3] % multiple != 0 ||
        shape[4] % multiple != 0) {
      fail(ErrorCode::format, "{}: {} has shape {}; it has to be [1, {}, frames, height, width]",
           set_.directory.string(), name, shape.to_string(), channels);
    }
    return permuted(host_f32(stored), {0, 2, 3, 4, 1}).reshaped({shape[2], shape[3], shape[4], channels});
  }

  Tensor video_output(const Tensor& video) const {
    const Tensor planes = permuted(fetch_f32(ops_, video), {3, 0, 1, 2});
    return planes.reshaped({1, planes.dim(0), planes.dim(1), planes.dim(2), planes.dim(3)});
  }

  void run_vae() {
    if (set_.has("vae.decode.in")) {
      models::WanVaeState state;
      const Tensor latents = ops_.from_host(video_input("vae.decode.in", 16, 1), DType::f32);
      result_.outputs["vae.decode.out"] = video_output(models::WanVaeDecoder(ops_, files_).push(state, latents));
    }
    if (set_.has("vae.encode.in")) {
      models::WanVaeState state;
      const Tensor video = ops_.from_host(video_input("vae.encode.in", 3, 8), DType::f32);
      if ((video.dim(0) - 1) % 4 != 0) {
        fail(ErrorCode::format, "{}: vae.encode.in holds {} frames; it has to be 4n+1", set_.directory.string(),
             video.dim(0));
      }
      result_.outputs["vae.encode.out"] = video_output(models::WanVaeEncoder(ops_, files_).push(state, video));
    }
  }

  ops::Operations& ops_;
  const weights::ModelFiles& files_;
  const GoldenSet& set_;
  const GoldenConfig& config_;
  bool own_masks_;
  GoldenRun result_;
};

}  // namespace

GoldenRun run_golden_set(ops::Operations& operations, const weights::ModelFiles& files, const GoldenSet& set,
                         bool own_masks) {
  return Run(operations, files, set, own_masks).result();
}

}  // namespace flashvsr::cli
