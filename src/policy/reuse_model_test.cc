// Goal: without data the model is LRU; with data, what is used again at some age is worth most before that age, and
// what is never used again is worth least.
#include "policy/reuse_model.h"
#include "base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace tiercel {
namespace {

using Place = ReuseFeatures::Place;

void refit(ReuseModel& model) {
  WorkBudget all(WorkBudget::kUnlimited);
  model.begin_refit();
  model.refit(all);
}

TEST(ReuseModel, without_data_older_is_worth_less) {
  ReuseModel model;
  const ReuseCell cell = model.cell_of({});
  double before = model.worth(cell, 0.4);
  for (double age_s = 0.5; age_s < 1e5; age_s *= 1.3) {
    const double now = model.worth(cell, age_s);
    EXPECT_LT(now, before) << age_s;
    before = now;
  }
  EXPECT_GT(before, 0);
}

TEST(ReuseModel, the_same_features_are_the_same_cell) {
  ReuseModel model;
  const ReuseCell cell = model.cell_of({.place = Place::kFork, .output = 3});
  EXPECT_EQ(model.cell_of({.place = Place::kFork, .output = 3}), cell);
  EXPECT_NE(model.cell_of({.place = Place::kFork, .output = 4}), cell);
  EXPECT_EQ(model.cells(), 2U);
}

TEST(ReuseModel, what_is_used_again_is_worth_more_than_what_is_not) {
  ReuseModel model;
  const ReuseCell used = model.cell_of({.place = Place::kReused});
  const ReuseCell dead = model.cell_of({.place = Place::kLast});
  for (int i = 0; i < 1000; ++i) {
    model.on_reuse(used, 10);
    model.on_forgotten(dead, 1000);
  }
  refit(model);
  for (const double age_s : {0.0, 1.0, 9.0})
    EXPECT_GT(model.worth(used, age_s), 10 * model.worth(dead, age_s)) << age_s;
}

TEST(ReuseModel, a_reuse_at_a_known_age_is_worth_most_shortly_before_it) {
  ReuseModel model;
  const ReuseCell cell = model.cell_of({});
  for (int i = 0; i < 10'000; ++i) model.on_reuse(cell, 100);
  refit(model);
  EXPECT_GT(model.worth(cell, 90), 2 * model.worth(cell, 1)) << "round robin: the oldest is used next";
  EXPECT_GT(model.worth(cell, 90), 2 * model.worth(cell, 1000));
}

TEST(ReuseModel, blocks_that_wait_count_as_not_used_so_far) {
  ReuseModel waited;
  ReuseModel without;
  for (ReuseModel* model : {&waited, &without}) {
    const ReuseCell cell = model->cell_of({});
    for (int i = 0; i < 100; ++i) model->on_reuse(cell, 10);
    if (model == &waited) model->add_waiting(cell, 1000, 10'000);
    refit(*model);
  }
  EXPECT_LT(waited.worth(0, 1), 0.2 * without.worth(0, 1));
}

TEST(ReuseModel, halved_counts_give_way_to_new_ones) {
  ReuseModel model;
  const ReuseCell cell = model.cell_of({});
  for (int i = 0; i < 1000; ++i) model.on_reuse(cell, 10);
  for (int i = 0; i < 20; ++i) model.age_counts();
  for (int i = 0; i < 1000; ++i) model.on_reuse(cell, 1000);
  refit(model);
  EXPECT_GT(model.worth(cell, 900), model.worth(cell, 5));
}

TEST(ReuseModel, counts_do_not_stop_growing) {
  constexpr std::uint64_t kMany = 1U << 25U;  // to which a float cannot add one
  constexpr std::uint64_t kMore = 1U << 22U;
  ReuseModel at_once;
  ReuseModel one_by_one;
  for (ReuseModel* model : {&at_once, &one_by_one}) {
    const ReuseCell cell = model->cell_of({});
    model->on_reuse(cell, 10, 1'000'000);
    model->on_forgotten(cell, 1000, kMany);
  }
  at_once.on_forgotten(0, 1000, kMore);
  for (std::uint64_t i = 0; i < kMore; ++i) one_by_one.on_forgotten(0, 1000);
  refit(at_once);
  refit(one_by_one);
  EXPECT_NEAR(one_by_one.worth(0, 1), at_once.worth(0, 1), 1e-6 * at_once.worth(0, 1));
}

TEST(ReuseModel, a_refit_in_slices_is_the_refit_at_once) {
  const auto fill = [](ReuseModel& model) {
    for (std::uint32_t i = 0; i < 2000; ++i) {
      const ReuseCell cell = model.cell_of({.place = static_cast<Place>(i % 5), .output = i % 10, .pace = i * 7 % 11});
      model.on_reuse(cell, i % 97);
      model.on_forgotten(cell, i % 89 * 10);
      model.add_waiting(cell, i % 83, 3);
    }
  };
  constexpr std::uint64_t kSlice = 7;
  ReuseModel at_once;
  ReuseModel sliced;
  fill(at_once);
  fill(sliced);
  refit(at_once);
  sliced.begin_refit();
  std::uint64_t slices = 0;
  for (; sliced.is_refitting(); ++slices) {
    WorkBudget work(kSlice);
    sliced.refit(work);
    EXPECT_LT(work.spent(), kSlice + WorkBudget::kLargestStep);
  }
  EXPECT_GT(slices, at_once.cells());
  for (std::size_t cell = 0; cell < at_once.cells(); ++cell) {
    for (const double age_s : {0.1, 3.0, 50.0, 700.0}) {
      EXPECT_EQ(sliced.worth(static_cast<ReuseCell>(cell), age_s), at_once.worth(static_cast<ReuseCell>(cell), age_s));
    }
  }
}

/// All ends tried one by one.
double best_rate(const ReuseModel::Bins& hazard, std::size_t start) {
  double left = 1;
  double hits = 0;
  double seconds = 0;
  double best = 0;
  for (std::size_t bin = start; bin < hazard.size(); ++bin) {
    const double length = bin == 0 ? 0.25 : 0.25 * std::pow(1.4, static_cast<double>(bin) - 1) * 0.4;
    const double reuse = -std::expm1(-static_cast<double>(hazard.at(bin)));
    hits += left * reuse;
    seconds += left * reuse / static_cast<double>(hazard.at(bin)) * length;
    left *= 1 - reuse;
    best = std::max(best, hits / seconds);
  }
  return best;
}

TEST(ReuseModel, best_rates_are_those_of_the_best_keeping_time) {
  Random random(1);
  for (std::uint64_t round = 0; round < 500; ++round) {
    ReuseModel::Bins hazard{};
    for (float& value : hazard) value = std::exp2(static_cast<float>(random.below(2 + round % 20)) - 12);
    const auto rates = ReuseModel::best_rates(hazard);
    for (std::size_t bin = 0; bin < hazard.size(); ++bin) {
      EXPECT_NEAR(static_cast<double>(rates.at(bin)), best_rate(hazard, bin), 1e-4 * best_rate(hazard, bin));
    }
  }
}

}  // namespace
}  // namespace tiercel
