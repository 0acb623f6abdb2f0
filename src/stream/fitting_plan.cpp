#include "stream/fitting_plan.h"

#include "core/physical_memory.h"
#include "stream/stream.h"

#include <algorithm>

namespace flashvsr::stream {
namespace {

// Smaller slices than this save nothing that counts.
constexpr std::size_t kLeastSlice = std::size_t{32} << 20;
constexpr int kMostIdleSteps = 8;

// Tries settings one after the other and keeps the last plan that fits, or the smallest one.
class Search {
 public:
  Search(const weights::ModelFiles& files, const ops::PlanningSettings& planning, MemoryPlan plan,
         std::size_t available)
      : files_(files), planning_(planning), best_(std::move(plan)), available_(available) {
    best_.available = available;
  }

  const MemoryPlan& best() const { return best_; }
  bool found() const { return best_.total <= available_; }

  // Bytes that are missing; 0: it fits.
  std::size_t missing(const StreamSettings& settings) {
    MemoryPlan plan = plan_memory(files_, settings, planning_);
    plan.available = available_;
    const bool fits = plan.total <= available_;
    const std::size_t missing = fits ? 0 : plan.total - available_;
    if (fits || (!found() && plan.total < best_.total)) best_ = std::move(plan);
    return missing;
  }
  bool fits(const StreamSettings& settings) { return missing(settings) == 0; }

  // The same with the largest slices that fit. The smallest are tried first: mostly it is they that do not.
  bool fits_in_slices(StreamSettings settings) {
    if (settings.decoder_slice_bytes || settings.full_decoder) return fits(settings);
    settings.decoder_slice_bytes = kLeastSlice;
    if (!fits(settings)) return false;
    for (std::size_t slice = models::TinyDecoder::kSliceBytes; slice > kLeastSlice; slice /= 2) {
      settings.decoder_slice_bytes = slice;
      if (fits(settings)) break;
    }
    return true;
  }

  // The fewest spilled windows, of `layers` layers, of a stream whose plan without them is `whole`.
  bool fits_spilled(StreamSettings settings, const MemoryPlan& whole, std::int64_t layers) {
    const std::int64_t first = chunk_at(0).latents / ops::kWindowLatents, most = layers * settings.kv_chunks;
    const auto slots = [&](std::int64_t spilled) {
      return ops::kv_cache_slots(layers, settings.kv_chunks, first, spilled);
    };
    const std::size_t window = whole.kv_cache / static_cast<std::size_t>(slots(0));
    // Gaps change with the cache: what the figures promise is tried, and what was missing then is added to them.
    std::size_t needed = whole.total;
    for (std::int64_t spilled = 1; spilled <= most; ++spilled) {
      const std::int64_t saved = slots(0) - slots(spilled);
      if (saved <= 0 || needed - static_cast<std::size_t>(saved) * window > available_) continue;
      settings.spilled_windows = spilled;
      const std::size_t bytes = missing(settings);
      if (bytes == 0) return true;
      needed += bytes;
    }
    return false;
  }

 private:
  const weights::ModelFiles& files_;
  const ops::PlanningSettings& planning_;
  MemoryPlan best_;
  std::size_t available_;
};

}  // namespace

MemoryPlan fitting_plan(const MemoryPlan& plan, const weights::ModelFiles& files, const StreamSettings& settings,
                        const ops::PlanningSettings& planning, std::size_t available) {
  Search search(files, planning, plan, available);
  // Where nothing helps, nothing is tried: of huge frames that would take minutes.
  if (search.found() || plan.unavoidable > available) return search.best();
  if (search.fits_in_slices(settings)) return search.best();
  StreamSettings spilling = settings;
  if (planning.own_memory && !settings.spilled_windows) {
    // Tiles share their slots where nothing stays in them.
    const bool whole = plan.tiles.count() == 1;
    if (whole && search.fits_spilled(settings, plan, files.config.layers)) return search.best();
    spilling.spilled_windows = files.config.layers * settings.kv_chunks;
    if (search.fits_in_slices(spilling)) return search.best();
  }
  if (settings.tiles) return search.best();
  // Overlaps take more with every step: behind some that did not help none will.
  int idle_steps = 0;
  for (const TileCounts& tiles : tile_ladder(plan.tile_width, plan.tile_height)) {
    const std::size_t before = search.best().total;
    spilling.tiles = tiles;
    if (search.fits_in_slices(spilling)) break;
    idle_steps = search.best().total < before ? 0 : idle_steps + 1;
    if (idle_steps == kMostIdleSteps) break;
  }
  return search.best();
}

void require_memory(const MemoryPlan& plan, const StreamSettings& settings) {
  const auto gigabytes = [](std::size_t bytes) { return fmt::format("{:.1f} GB", static_cast<double>(bytes) / 1e9); };
  const std::string output = fmt::format("an output of {}x{}", settings.output_width, settings.output_height);
  const std::string remedy =
      settings.kv_chunks > 1
          ? fmt::format("choose a smaller output or fewer chunks in the KV cache (now {})", settings.kv_chunks)
          : "choose a smaller output";
  if (plan.unavoidable > plan.available && plan.tiles.count() == 1) {
    fail(ErrorCode::out_of_memory, "{} needs more than {} of memory, even in slices and tiles; {} are there: {}",
         output, gigabytes(plan.unavoidable), gigabytes(plan.available), remedy);
  }
  if (plan.total > plan.available) {
    const bool cut = plan.tiles.count() > 1;
    fail(ErrorCode::out_of_memory,
         "{} needs at least {} of memory{}, of which the KV cache takes {}{}; {} are there: {}{}", output,
         gigabytes(plan.total), cut ? fmt::format(", even in tiles of {}x{}", plan.tile_width, plan.tile_height) : "",
         gigabytes(plan.kv_cache),
         plan.spilled > 0 ? fmt::format(", with {} more in the host's memory", gigabytes(plan.spilled)) : "",
         gigabytes(plan.available), remedy, settings.tiles == TileCounts{} ? ", or let frames be cut into tiles" : "");
  }
  const std::size_t host = physical_memory().value_or(ops::kUnboundedMemory);
  // The host has other uses for its memory.
  if (plan.spilled > host / 4 * 3) {
    fail(ErrorCode::out_of_memory, "{} needs {} of the host's memory for the KV cache, which has {}: {}", output,
         gigabytes(plan.spilled), gigabytes(host), remedy);
  }
}

}  // namespace flashvsr::stream
