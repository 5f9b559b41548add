// ReuseModel: how likely a block is used again at which age, learnt from what was, and what keeping it is worth.
//
// Blocks fall into cells by four features that are known when they are used (ReuseFeatures). For each cell and each of
// 44 bins of age the model counts reuses and the time that blocks were at risk of one; refit() turns these counts into
// hazards and these into an index, the best rate of hits per second of residence that any keeping time reaches (a
// Gittins index). Deterministic; no clock, no IO, no locks; one thread. Fixed tables of at most kCells x 44 numbers,
// grown as cells are seen.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace tiercel {

using ReuseCell = std::uint16_t;

struct ReuseFeatures {
  enum class Place : std::uint8_t { kLast = 0, kWideFork = 1, kFork = 2, kNew = 3, kReused = 4 };
  static constexpr std::uint32_t kPlaces = 5;
  static constexpr std::uint32_t kOutputs = 10;
  static constexpr std::uint32_t kFreshs = 8;
  static constexpr std::uint32_t kPaces = 11;

  Place place = Place::kNew;
  std::uint32_t output = 0;         ///< class of the answer's length, below kOutputs
  std::uint32_t fresh = 0;          ///< class of the number of new blocks, below kFreshs
  std::uint32_t pace = kPaces - 1;  ///< class of the usual gap between uses; the last: not known

  [[nodiscard]] std::uint32_t number() const noexcept {
    return ((static_cast<std::uint32_t>(place) * kOutputs + output) * kFreshs + fresh) * kPaces + pace;
  }
};

class ReuseModel {
 public:
  static constexpr std::size_t kBins = 44;
  static constexpr std::uint32_t kCells =
      ReuseFeatures::kPlaces * ReuseFeatures::kOutputs * ReuseFeatures::kFreshs * ReuseFeatures::kPaces;

  ReuseModel();

  /// The cell of these features.
  [[nodiscard]] ReuseCell cell_of(const ReuseFeatures& features);
  [[nodiscard]] const ReuseFeatures& features_of(ReuseCell cell) const { return features_[cell]; }
  /// Blocks were used again `age_s` after their last use.
  void on_reuse(ReuseCell cell, double age_s, double blocks = 1);
  /// Blocks were forgotten: nothing will be known of them after `age_s`.
  void on_forgotten(ReuseCell cell, double age_s, double blocks = 1) { add_exposure(closed_[cell], age_s, blocks); }
  /// Blocks that are still waited for; call for all of them before refit(), which forgets these.
  void add_waiting(ReuseCell cell, double age_s, double blocks) { add_exposure(waiting_[cell], age_s, blocks); }
  void refit();
  /// Halves all counts, so that what is new counts more.
  void age_counts();

  /// Hits per second that keeping a block of this cell and age is worth; comparable between all.
  [[nodiscard]] double worth(ReuseCell cell, double age_s) const noexcept;
  [[nodiscard]] std::size_t cells() const noexcept { return features_.size(); }
  [[nodiscard]] std::uint64_t bytes() const noexcept;

 private:
  static constexpr std::size_t kGroupBins = 4;  // bins that share the factors of a feature
  static constexpr std::size_t kGroups = kBins / kGroupBins;
  static constexpr ReuseCell kUnseen = UINT16_MAX;

  using Bins = std::array<float, kBins>;
  /// Blocks by the bin in which their exposure ended, and the parts of that bin that they saw.
  struct Exposure {
    Bins ended{};
    Bins part{};
  };
  using Factors = std::array<std::array<float, kGroups>, ReuseFeatures::kPaces>;

  static void add_exposure(Exposure& exposure, double age_s, double blocks);
  void sum_exposures();
  void fit_places();
  void fit_factors();
  void index_cell(std::size_t cell);
  [[nodiscard]] std::uint32_t value_of(std::size_t cell, std::size_t feature) const noexcept;

  std::vector<ReuseCell> numbers_;  // by ReuseFeatures::number()
  std::vector<ReuseFeatures> features_;
  std::vector<Bins> events_;
  std::vector<Exposure> closed_;
  std::vector<Exposure> waiting_;
  std::vector<Bins> exposure_;  // in lengths of the bin; of the last refit
  std::vector<Bins> hazard_;
  std::vector<std::array<float, kBins + 1>> worth_;  // at the beginning of each bin
  Bins unseen_hazard_{};
  std::array<Bins, ReuseFeatures::kPlaces> place_hazard_{};
  std::array<Factors, 3> factors_{};
};

}  // namespace tiercel
