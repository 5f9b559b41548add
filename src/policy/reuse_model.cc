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
constexpr float kPriorEvents = 0.5F;
constexpr float kPriorExposure = 10;  // 0.05 a bin: about 1 / age
constexpr float kPlaceWeight = 100;
constexpr float kFactorWeight = 30;
constexpr float kSmallestFactor = 0.02F;
constexpr float kLargestFactor = 20;
constexpr int kFactorRounds = 3;

}  // namespace

ReuseModel::ReuseModel() : numbers_(kCells, kUnseen) {
  unseen_hazard_.fill(kPriorEvents / kPriorExposure);
  place_hazard_.fill(unseen_hazard_);
  for (Factors& factors : factors_) {
    for (auto& groups : factors) groups.fill(1);
  }
}

ReuseCell ReuseModel::cell_of(const ReuseFeatures& features) {
  ReuseCell& cell = numbers_[features.number()];
  if (cell == kUnseen) {
    cell = static_cast<ReuseCell>(features_.size());
    features_.push_back(features);
    events_.emplace_back();
    closed_.emplace_back();
    waiting_.emplace_back();
    exposure_.emplace_back();
    hazard_.emplace_back();
    worth_.emplace_back();
    index_cell(cell);
  }
  return cell;
}

void ReuseModel::add_exposure(Exposure& exposure, double age_s, double blocks) {
  const double bins = bins_of(age_s);
  const auto bin = std::min(static_cast<std::size_t>(bins), kBins - 1);
  exposure.ended[bin] += static_cast<float>(blocks);
  exposure.part[bin] += static_cast<float>(std::min(bins - static_cast<double>(bin), 1.0) * blocks);
}

void ReuseModel::on_reuse(ReuseCell cell, double age_s, double blocks) {
  add_exposure(closed_[cell], age_s, blocks);
  events_[cell][std::min(static_cast<std::size_t>(bins_of(age_s)), kBins - 1)] += static_cast<float>(blocks);
}

void ReuseModel::age_counts() {
  const auto halve = [](Bins& bins) {
    for (float& value : bins) value *= 0.5F;
  };
  for (std::size_t cell = 0; cell < cells(); ++cell) {
    halve(events_[cell]);
    halve(closed_[cell].ended);
    halve(closed_[cell].part);
  }
}

void ReuseModel::sum_exposures() {
  for (std::size_t cell = 0; cell < cells(); ++cell) {
    float beyond = 0;
    for (std::size_t bin = kBins; bin-- > 0;) {
      exposure_[cell][bin] = beyond + closed_[cell].part[bin] + waiting_[cell].part[bin];
      beyond += closed_[cell].ended[bin] + waiting_[cell].ended[bin];
    }
    waiting_[cell] = {};
  }
}

void ReuseModel::fit_places() {
  std::array<Bins, ReuseFeatures::kPlaces> events{};
  std::array<Bins, ReuseFeatures::kPlaces> exposure{};
  for (std::size_t cell = 0; cell < cells(); ++cell) {
    const auto place = static_cast<std::size_t>(features_[cell].place);
    for (std::size_t bin = 0; bin < kBins; ++bin) {
      events[place][bin] += events_[cell][bin];
      exposure[place][bin] += exposure_[cell][bin];
    }
  }
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    float all_events = kPriorEvents;
    float all_exposure = kPriorExposure;
    for (std::size_t place = 0; place < events.size(); ++place) {
      all_events += events[place][bin];
      all_exposure += exposure[place][bin];
    }
    unseen_hazard_[bin] = all_events / all_exposure;
    for (std::size_t place = 0; place < events.size(); ++place) {
      place_hazard_[place][bin] =
          (events[place][bin] + kPlaceWeight * unseen_hazard_[bin]) / (exposure[place][bin] + kPlaceWeight);
    }
  }
}

std::uint32_t ReuseModel::value_of(std::size_t cell, std::size_t feature) const noexcept {
  const ReuseFeatures& features = features_[cell];
  return feature == 0 ? features.output : feature == 1 ? features.fresh : features.pace;
}

/// Proportional fitting: each factor is what was observed over what all else would expect, in turn.
void ReuseModel::fit_factors() {
  std::vector<std::array<float, kGroups>> expected(cells());  // with place alone
  std::vector<std::array<float, kGroups>> observed(cells());
  for (std::size_t cell = 0; cell < cells(); ++cell) {
    const Bins& hazard = place_hazard_[static_cast<std::size_t>(features_[cell].place)];
    for (std::size_t bin = 0; bin < kBins; ++bin) {
      expected[cell][bin / kGroupBins] += exposure_[cell][bin] * hazard[bin];
      observed[cell][bin / kGroupBins] += events_[cell][bin];
    }
  }
  for (Factors& factors : factors_) {
    for (auto& groups : factors) groups.fill(1);
  }
  for (int round = 0; round < kFactorRounds; ++round) {
    for (std::size_t feature = 0; feature < factors_.size(); ++feature) {
      Factors seen{};
      Factors foreseen{};
      for (std::size_t cell = 0; cell < cells(); ++cell) {
        const std::uint32_t value = value_of(cell, feature);
        const std::size_t second = (feature + 1) % 3;
        const std::size_t third = (feature + 2) % 3;
        const auto& second_factors = factors_[second][value_of(cell, second)];
        const auto& third_factors = factors_[third][value_of(cell, third)];
        for (std::size_t group = 0; group < kGroups; ++group) {
          seen[value][group] += observed[cell][group];
          foreseen[value][group] += expected[cell][group] * second_factors[group] * third_factors[group];
        }
      }
      for (std::size_t value = 0; value < seen.size(); ++value) {
        for (std::size_t group = 0; group < kGroups; ++group) {
          factors_[feature][value][group] =
              std::clamp((seen[value][group] + kFactorWeight) / (foreseen[value][group] + kFactorWeight),
                         kSmallestFactor, kLargestFactor);
        }
      }
    }
  }
}

/// worth[b] = max over e >= b of P(reuse in bins b to e) / E[time until reuse or the end of e], from the start of b.
void ReuseModel::index_cell(std::size_t cell) {
  const ReuseFeatures& features = features_[cell];
  Bins reuse{};  // of those at risk at the bin's start
  Bins time{};   // resident in the bin, for each of those
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    const std::size_t group = bin / kGroupBins;
    const float hazard = place_hazard_[static_cast<std::size_t>(features.place)][bin] *
                         factors_[0][features.output][group] * factors_[1][features.fresh][group] *
                         factors_[2][features.pace][group];
    hazard_[cell][bin] = hazard;
    reuse[bin] = -std::expm1(-hazard);
    time[bin] = (hazard > 1e-6F ? reuse[bin] / hazard : 1) * kBinLengths[bin];
  }
  for (std::size_t start = 0; start < kBins; ++start) {
    float left = 1;
    float hits = 0;
    float seconds = 0;
    float best = 0;
    for (std::size_t bin = start; bin < kBins; ++bin) {
      hits += left * reuse[bin];
      seconds += left * time[bin];
      left -= left * reuse[bin];
      best = std::max(best, hits / seconds);
    }
    worth_[cell][start] = best;
  }
  worth_[cell][kBins] = 0;
}

void ReuseModel::refit() {
  sum_exposures();
  fit_places();
  fit_factors();
  for (std::size_t cell = 0; cell < cells(); ++cell) index_cell(cell);
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
         features_.size() * (sizeof(ReuseFeatures) + 3 * sizeof(Bins) + 2 * sizeof(Exposure) + sizeof(worth_[0]));
}

}  // namespace tiercel
