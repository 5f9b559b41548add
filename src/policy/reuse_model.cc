#include "policy/reuse_model.h"

#include "base/check.h"

#include <algorithm>
#include <cmath>

namespace tiercel {
namespace {

constexpr double kFirstBinEnd_s = 0.25;
constexpr double kBinGrowth = 1.4;
const double kBinsPerOctave = 1 / std::log2(kBinGrowth);

/// In bins: 2.5 is the middle of the third.
double bins_of(double age_s) noexcept {
  if (age_s < kFirstBinEnd_s) return age_s / kFirstBinEnd_s;
  const float octaves = std::log2(static_cast<float>(age_s / kFirstBinEnd_s));
  return 1 + static_cast<double>(octaves) * kBinsPerOctave;
}

double bin_start(std::size_t bin) noexcept {
  return bin == 0 ? 0 : kFirstBinEnd_s * std::pow(kBinGrowth, static_cast<double>(bin) - 1);
}

std::array<float, ReuseModel::kBins> bin_lengths() {
  std::array<float, ReuseModel::kBins> lengths{};
  for (std::size_t bin = 0; bin < lengths.size(); ++bin) {
    lengths[bin] = static_cast<float>(bin_start(bin + 1) - bin_start(bin));
  }
  return lengths;
}
const std::array<float, ReuseModel::kBins> kBinLengths = bin_lengths();

// Weights of what is believed without data.
constexpr double kPriorEvents = 0.5;
constexpr double kPriorExposure = 10;  // 0.05 a bin: about 1 / age
constexpr double kPlaceWeight = 100;
constexpr float kFactorShrink = 30;
constexpr float kSmallestFactor = 0.02F;
constexpr float kLargestFactor = 20;
constexpr std::size_t kFactorRounds = 3;

// Work of a step, in units of WorkBudget.
constexpr std::uint64_t kSumWork = 8;
constexpr std::uint64_t kPlacesWork = 16;
constexpr std::uint64_t kExpectWork = 2;
constexpr std::uint64_t kFactorWork = 1;
constexpr std::uint64_t kFactorEndWork = 8;
constexpr std::uint64_t kIndexWork = 20;

}  // namespace

ReuseModel::ReuseModel() : numbers_(kCells, kUnseen) {
  // Address space for all at once: a vector that moves would be too long a slice.
  features_.reserve(kCells);
  cells_.reserve(kCells);
  waiting_.reserve(kCells);
  worth_.reserve(kCells);
  for (Bins& hazard : place_hazard_) hazard.fill(static_cast<float>(kPriorEvents / kPriorExposure));
  for (Factors& factors : factors_) {
    for (Groups& groups : factors) groups.fill(1);
  }
}

ReuseCell ReuseModel::cell_of(const ReuseFeatures& features) {
  ReuseCell& cell = numbers_[features.number()];
  if (cell == kUnseen) {
    cell = static_cast<ReuseCell>(features_.size());
    features_.push_back(features);
    cells_.emplace_back();
    waiting_.emplace_back();
    worth_.emplace_back();
    index_cell(cell);
  }
  return cell;
}

std::optional<ReuseCell> ReuseModel::ended_of(ReuseCell cell) const noexcept {
  ReuseFeatures features = features_[cell];
  features.place = ReuseFeatures::Place::kEnded;
  const ReuseCell ended = numbers_[features.number()];
  return ended == kUnseen ? std::nullopt : std::optional(ended);
}

void ReuseModel::add_exposure(Exposure& exposure, double age_s, double blocks) {
  const double bins = bins_of(age_s);
  const auto bin = std::min(static_cast<std::size_t>(bins), kBins - 1);
  exposure.ended[bin] += blocks;
  exposure.part[bin] += std::min(bins - static_cast<double>(bin), 1.0) * blocks;
}

void ReuseModel::on_reuse(ReuseCell cell, double age_s, double blocks) {
  on_forgotten(cell, age_s, blocks);
  cells_[cell].events[std::min(static_cast<std::size_t>(bins_of(age_s)), kBins - 1)] += blocks;
}

void ReuseModel::on_forgotten(ReuseCell cell, double age_s, double blocks) {
  halve_as_due(cells_[cell]);
  add_exposure(cells_[cell].closed, age_s, blocks);
}

/// A cell's counts are halved when they are next needed: all at once would be too long a slice.
void ReuseModel::halve_as_due(Cell& cell) const {
  if (cell.halvings == halvings_) return;
  const double scale = std::ldexp(1.0, -static_cast<int>(std::min(halvings_ - cell.halvings, 1000U)));
  cell.halvings = halvings_;
  for (Counts* counts : {&cell.events, &cell.closed.ended, &cell.closed.part}) {
    for (double& count : *counts) count *= scale;
  }
}

void ReuseModel::begin_refit() {
  stage_ = Stage::kSum;
  at_ = 0;
  count_ = cells();
  turn_ = 0;
  place_events_ = {};
  place_exposure_ = {};
  for (Factors& factors : next_factors_) {
    for (Groups& groups : factors) groups.fill(1);
  }
}

/// False, and back at the first cell, when all have had their turn.
bool ReuseModel::next_cell() {
  if (++at_ < count_) return true;
  at_ = 0;
  return false;
}

void ReuseModel::refit(WorkBudget& work) {
  if (count_ == 0) stage_ = Stage::kNone;
  while (stage_ != Stage::kNone && work.any_left()) {
    switch (stage_) {
      case Stage::kNone:
        break;
      case Stage::kSum:
        sum_cell(at_);
        work.spend(kSumWork);
        if (next_cell()) break;
        fit_places();
        work.spend(kPlacesWork);
        stage_ = Stage::kExpect;
        break;
      case Stage::kExpect:
        expect_cell(at_);
        work.spend(kExpectWork);
        if (!next_cell()) stage_ = Stage::kFactors;
        break;
      case Stage::kFactors:
        add_to_factor(at_);
        work.spend(kFactorWork);
        if (next_cell()) break;
        finish_factor();
        work.spend(kFactorEndWork);
        if (++turn_ < kFactorRounds * kFactorFeatures) break;
        place_hazard_ = next_place_hazard_;
        factors_ = next_factors_;
        count_ = cells();
        stage_ = Stage::kIndex;
        break;
      case Stage::kIndex:
        index_cell(at_);
        work.spend(kIndexWork);
        if (!next_cell()) stage_ = Stage::kNone;
        break;
    }
  }
}

void ReuseModel::sum_cell(std::size_t number) {
  Cell& cell = cells_[number];
  halve_as_due(cell);
  const auto place = static_cast<std::size_t>(features_[number].place);
  Exposure& waiting = waiting_[number];
  cell.observed = {};
  double beyond = 0;
  for (std::size_t bin = kBins; bin-- > 0;) {
    const double exposure = beyond + cell.closed.part[bin] + waiting.part[bin];
    beyond += cell.closed.ended[bin] + waiting.ended[bin];
    cell.exposure[bin] = static_cast<float>(exposure);
    cell.observed[bin / kGroupBins] += static_cast<float>(cell.events[bin]);
    place_exposure_[place][bin] += exposure;
    place_events_[place][bin] += cell.events[bin];
  }
  waiting = {};
}

void ReuseModel::fit_places() {
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    double events = kPriorEvents;
    double exposure = kPriorExposure;
    for (std::size_t place = 0; place < ReuseFeatures::kPlaces; ++place) {
      events += place_events_[place][bin];
      exposure += place_exposure_[place][bin];
    }
    for (std::size_t place = 0; place < ReuseFeatures::kPlaces; ++place) {
      next_place_hazard_[place][bin] =
          static_cast<float>((place_events_[place][bin] + kPlaceWeight * events / exposure) /
                             (place_exposure_[place][bin] + kPlaceWeight));
    }
  }
}

void ReuseModel::expect_cell(std::size_t number) {
  Cell& cell = cells_[number];
  const Bins& hazard = next_place_hazard_[static_cast<std::size_t>(features_[number].place)];
  cell.expected = {};
  for (std::size_t bin = 0; bin < kBins; ++bin) cell.expected[bin / kGroupBins] += cell.exposure[bin] * hazard[bin];
}

std::uint32_t ReuseModel::value_of(std::size_t cell, std::size_t feature) const noexcept {
  const ReuseFeatures& features = features_[cell];
  return feature == 0 ? features.output : feature == 1 ? features.fresh : features.pace;
}

/// Proportional fitting: each factor is what was observed over what all else would expect, in turn.
void ReuseModel::add_to_factor(std::size_t number) {
  const std::size_t feature = turn_ % kFactorFeatures;
  const std::size_t second = (feature + 1) % kFactorFeatures;
  const std::size_t third = (feature + 2) % kFactorFeatures;
  const Groups& second_factors = next_factors_[second][value_of(number, second)];
  const Groups& third_factors = next_factors_[third][value_of(number, third)];
  const std::uint32_t value = value_of(number, feature);
  for (std::size_t group = 0; group < kGroups; ++group) {
    seen_[value][group] += cells_[number].observed[group];
    foreseen_[value][group] += cells_[number].expected[group] * second_factors[group] * third_factors[group];
  }
}

void ReuseModel::finish_factor() {
  Factors& factors = next_factors_[turn_ % kFactorFeatures];
  for (std::size_t value = 0; value < factors.size(); ++value) {
    for (std::size_t group = 0; group < kGroups; ++group) {
      factors[value][group] =
          std::clamp((seen_[value][group] + kFactorShrink) / (foreseen_[value][group] + kFactorShrink), kSmallestFactor,
                     kLargestFactor);
    }
  }
  seen_ = {};
  foreseen_ = {};
}

void ReuseModel::index_cell(std::size_t cell) {
  const ReuseFeatures& features = features_[cell];
  Bins hazard = place_hazard_[static_cast<std::size_t>(features.place)];
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    const std::size_t group = bin / kGroupBins;
    hazard[bin] *=
        factors_[0][features.output][group] * factors_[1][features.fresh][group] * factors_[2][features.pace][group];
  }
  worth_[cell] = best_rates(hazard);
}

/// From the last bin to the first: a bin takes in the stretches behind it while these have the better rate. What was
/// taken in is never the end of an earlier bin's best stretch, so this is as many steps as bins.
std::array<float, ReuseModel::kBins + 1> ReuseModel::best_rates(const Bins& hazard) {
  struct Stretch {
    float reuse;  // of those at risk at its start
    float time;   // resident in it, for each of those
    float left;   // at its end
    float rate;
  };
  std::array<Stretch, kBins> stretches;  // the next to be taken in is the last
  std::size_t count = 0;
  std::array<float, kBins + 1> rates{};
  for (std::size_t bin = kBins; bin-- > 0;) {
    const float reuse = -std::expm1(-hazard[bin]);
    const float time = (hazard[bin] > 1e-6F ? reuse / hazard[bin] : 1) * kBinLengths[bin];
    Stretch best{.reuse = reuse, .time = time, .left = 1 - reuse, .rate = reuse / time};
    while (count > 0 && stretches[count - 1].rate > best.rate) {
      const Stretch& next = stretches[--count];
      best.reuse += best.left * next.reuse;
      best.time += best.left * next.time;
      best.left *= next.left;
      best.rate = best.reuse / best.time;
    }
    stretches[count++] = best;
    rates[bin] = best.rate;
  }
  return rates;
}

double ReuseModel::worth(ReuseCell cell, double age_s) const noexcept {
  const double bins = std::min(bins_of(age_s), static_cast<double>(kBins) - 1e-6);
  const auto bin = static_cast<std::size_t>(bins);
  const double part = bins - static_cast<double>(bin);
  const auto& worth = worth_[cell];
  return static_cast<double>(worth[bin]) * (1 - part) + static_cast<double>(worth[bin + 1]) * part;
}

std::uint64_t ReuseModel::bytes() const noexcept {
  return numbers_.size() * sizeof(ReuseCell) +
         cells() * (sizeof(ReuseFeatures) + sizeof(Cell) + sizeof(Exposure) + sizeof(worth_[0]));
}

}  // namespace tiercel
