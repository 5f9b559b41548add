// ReuseModel: how likely a block is used again at which age, learnt from what was, and what keeping it is worth.
//
// Blocks fall into cells by four features that are known when they are used (ReuseFeatures). For each cell and each of
// 44 bins of age the model counts reuses and the time that blocks were at risk of one. A refit turns these counts into
// hazards and these into an index, the best rate of hits per second of residence that any keeping time reaches (a
// Gittins index). It goes in steps, beside counts that go on: what a cell was worth stays until its turn comes.
// Counts are doubles: below 2^53 no block is lost, and halving is exact.
//
// Deterministic; no clock, no IO, no locks; one thread. Fixed tables of at most kCells x 44 numbers, grown as cells are
// seen.
#pragma once

#include "policy/work_budget.h"

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace tiercel {

using ReuseCell = std::uint16_t;

struct ReuseFeatures {
  enum class Place : std::uint8_t { kLast = 0, kWideFork = 1, kFork = 2, kNew = 3, kReused = 4, kEnded = 5 };
  static constexpr std::uint32_t kPlaces = 6;
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
  /// The cell of the same features, but of a session that has ended; none: no block has been in it.
  [[nodiscard]] std::optional<ReuseCell> ended_of(ReuseCell cell) const noexcept;
  /// Blocks were used again `age_s` after their last use.
  void on_reuse(ReuseCell cell, double age_s, double blocks = 1);
  /// Blocks were forgotten: nothing will be known of them after `age_s`.
  void on_forgotten(ReuseCell cell, double age_s, double blocks = 1);
  /// Blocks that are still waited for; call for all of them before begin_refit(), which forgets these.
  void add_waiting(ReuseCell cell, double age_s, double blocks) { add_exposure(waiting_[cell], age_s, blocks); }
  /// Halves all counts, so that what is new counts more.
  void age_counts() noexcept { ++halvings_; }

  /// None may be under way.
  void begin_refit();
  [[nodiscard]] bool is_refitting() const noexcept { return stage_ != Stage::kNone; }
  /// Goes on with the refit while budget is left.
  void refit(WorkBudget& work);

  /// Hits per second that keeping a block of this cell and age is worth; comparable between all.
  [[nodiscard]] double worth(ReuseCell cell, double age_s) const noexcept;
  [[nodiscard]] std::size_t cells() const noexcept { return features_.size(); }
  /// Of the hazard in each bin, for one length of the bin: max over e >= b of P(reuse in bins b to e) / E[time until
  /// reuse or the end of e], for a block that has come to the start of b; 0 behind the last.
  using Bins = std::array<float, kBins>;
  [[nodiscard]] static std::array<float, kBins + 1> best_rates(const Bins& hazard);
  [[nodiscard]] std::uint64_t bytes() const noexcept;

 private:
  static constexpr std::size_t kGroupBins = 4;  // bins that share the factors of a feature
  static constexpr std::size_t kGroups = kBins / kGroupBins;
  static constexpr std::size_t kFactorFeatures = 3;  // output, fresh, pace
  static constexpr ReuseCell kUnseen = UINT16_MAX;

  using Counts = std::array<double, kBins>;
  using Groups = std::array<float, kGroups>;
  using Factors = std::array<Groups, ReuseFeatures::kPaces>;
  /// Blocks by the bin in which their exposure ended, and the parts of that bin that they saw.
  struct Exposure {
    Counts ended{};
    Counts part{};
  };
  struct Cell {
    std::uint32_t halvings = 0;  // that its counts have had
    Counts events{};
    Exposure closed;
    // Of the refit under way.
    Bins exposure{};  // in lengths of the bin
    Groups observed{};
    Groups expected{};  // with place alone
  };
  enum class Stage : std::uint8_t { kNone, kSum, kExpect, kFactors, kIndex };

  static void add_exposure(Exposure& exposure, double age_s, double blocks);
  void halve_as_due(Cell& cell) const;
  [[nodiscard]] bool next_cell();
  void sum_cell(std::size_t cell);
  void fit_places();
  void expect_cell(std::size_t cell);
  void add_to_factor(std::size_t cell);
  void finish_factor();
  void index_cell(std::size_t cell);
  [[nodiscard]] std::uint32_t value_of(std::size_t cell, std::size_t feature) const noexcept;

  std::vector<ReuseCell> numbers_;  // by ReuseFeatures::number()
  std::vector<ReuseFeatures> features_;
  std::vector<Cell> cells_;
  std::vector<Exposure> waiting_;
  std::vector<std::array<float, kBins + 1>> worth_;  // at the beginning of each bin
  std::uint32_t halvings_ = 0;
  std::array<Bins, ReuseFeatures::kPlaces> place_hazard_{};
  std::array<Factors, kFactorFeatures> factors_{};

  // Of the refit under way.
  Stage stage_ = Stage::kNone;
  std::size_t at_ = 0;     // the next cell
  std::size_t count_ = 0;  // cells that take part; later ones are indexed with the rest
  std::size_t turn_ = 0;   // of the factors: 3 x round + feature
  std::array<Counts, ReuseFeatures::kPlaces> place_events_{};
  std::array<Counts, ReuseFeatures::kPlaces> place_exposure_{};
  std::array<Bins, ReuseFeatures::kPlaces> next_place_hazard_{};
  std::array<Factors, kFactorFeatures> next_factors_{};
  Factors seen_{};
  Factors foreseen_{};
};

}  // namespace tiercel
