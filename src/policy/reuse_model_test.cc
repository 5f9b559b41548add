// Goal: without data the model is LRU; with data, what is used again at some age is worth most before that age, and
// what is never used again is worth least.
#include "policy/reuse_model.h"

#include <gtest/gtest.h>

namespace tiercel {
namespace {

using Place = ReuseFeatures::Place;

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
  model.refit();
  for (const double age_s : {0.0, 1.0, 9.0})
    EXPECT_GT(model.worth(used, age_s), 10 * model.worth(dead, age_s)) << age_s;
}

TEST(ReuseModel, a_reuse_at_a_known_age_is_worth_most_shortly_before_it) {
  ReuseModel model;
  const ReuseCell cell = model.cell_of({});
  for (int i = 0; i < 10'000; ++i) model.on_reuse(cell, 100);
  model.refit();
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
    model->refit();
  }
  EXPECT_LT(waited.worth(0, 1), 0.2 * without.worth(0, 1));
}

TEST(ReuseModel, halved_counts_give_way_to_new_ones) {
  ReuseModel model;
  const ReuseCell cell = model.cell_of({});
  for (int i = 0; i < 1000; ++i) model.on_reuse(cell, 10);
  for (int i = 0; i < 20; ++i) model.age_counts();
  for (int i = 0; i < 1000; ++i) model.on_reuse(cell, 1000);
  model.refit();
  EXPECT_GT(model.worth(cell, 900), model.worth(cell, 5));
}

}  // namespace
}  // namespace tiercel
