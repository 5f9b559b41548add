// Goal: one write of a page at a time, everyone who waits is told by a write that began after they came.
#include "tier/disk/metadata_pages.h"

#include "base/random.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace tiercel::disk {
namespace {

using Waiters = std::vector<MetadataPages::Waiter>;

TEST(MetadataPages, ATouchedPageIsWrittenOnlyWhenSomebodyWantsIt) {
  MetadataPages pages;
  pages.touch(3);
  EXPECT_FALSE(pages.take(8).has_value());
  pages.want(3, 1);
  const auto run = pages.take(8);
  ASSERT_TRUE(run.has_value());
  EXPECT_EQ(run->page, 3U);
  EXPECT_EQ(run->count, 1U);
  EXPECT_EQ(pages.finish(*run, true), (Waiters{1}));
  EXPECT_EQ(pages.tracked(), 0U);
}

TEST(MetadataPages, WhatComesDuringAWriteRidesOnTheNext) {
  MetadataPages pages;
  pages.want(3, 1);
  const auto first = *pages.take(8);
  pages.want(3, 2);
  EXPECT_TRUE(pages.in_flight(3));
  EXPECT_FALSE(pages.take(8).has_value()) << "one write of a page at a time";
  EXPECT_EQ(pages.finish(first, true), (Waiters{1}));
  const auto second = *pages.take(8);
  EXPECT_EQ(pages.finish(second, true), (Waiters{2}));
}

TEST(MetadataPages, WantedNeighboursGoAsOneRun) {
  MetadataPages pages;
  for (const std::uint32_t page : {7U, 5U, 6U, 9U}) pages.want(page, page);
  pages.touch(8);  // nobody waits for it
  const auto run = *pages.take(8);
  EXPECT_EQ(run.page, 5U);
  EXPECT_EQ(run.count, 3U);
  EXPECT_EQ(pages.take(8)->page, 9U);
}

TEST(MetadataPages, AFailedWriteLeavesItsPageStale) {
  MetadataPages pages;
  pages.want(3, 1);
  const auto run = *pages.take(8);
  EXPECT_EQ(pages.finish(run, false), (Waiters{1}));
  EXPECT_EQ(pages.want_all(2), 1U);
  EXPECT_EQ(pages.finish(*pages.take(8), true), (Waiters{2}));
}

TEST(MetadataPages, WantAllMeansStaleOnesAndThoseInFlight) {
  MetadataPages pages;
  pages.want(1, 1);
  const auto flying = *pages.take(8);
  pages.touch(5);
  pages.touch(1);  // stale again, and in flight
  EXPECT_EQ(pages.want_all(9), 3U);
  EXPECT_EQ(pages.finish(flying, true), (Waiters{1, 9}));
  std::size_t told = 0;
  while (const auto run = pages.take(8)) told += pages.finish(*run, true).size();
  EXPECT_EQ(told, 2U);
  EXPECT_EQ(pages.want_all(9), 0U);
}

TEST(MetadataPages, LateRidersAreToldAndThePageStaysInFlight) {
  MetadataPages pages;
  pages.want(3, 1);
  const auto run = *pages.take(8);
  EXPECT_EQ(pages.take_riders(run), (Waiters{1}));
  pages.want(3, 2);
  EXPECT_FALSE(pages.take(8).has_value());
  EXPECT_TRUE(pages.finish(run, false).empty());
  EXPECT_TRUE(pages.take(8).has_value());
}

TEST(MetadataPages, AForgottenPageIsNotWritten) {
  MetadataPages pages;
  pages.touch(3);
  pages.forget(3);
  EXPECT_EQ(pages.want_all(1), 0U);
}

RC_GTEST_PROP(MetadataPagesProperty, EveryWaiterIsToldOnceByALaterImage, (std::uint64_t seed)) {
  Random random(seed);
  MetadataPages pages;
  std::map<MetadataPages::Waiter, std::pair<std::uint32_t, std::uint64_t>> waiting;  // page, version wanted
  std::map<std::uint32_t, std::uint64_t> version;                                    // of the image
  struct Flight {
    MetadataPages::Run run;
    std::map<std::uint32_t, std::uint64_t> versions;
  };
  std::vector<Flight> flights;
  MetadataPages::Waiter next = 0;
  const auto land = [&](std::size_t at) {
    const Flight flight = flights[at];
    flights.erase(flights.begin() + static_cast<std::ptrdiff_t>(at));
    for (const MetadataPages::Waiter waiter : pages.finish(flight.run, random.below(4) != 0)) {
      RC_ASSERT(waiting.contains(waiter));
      const auto [page, wanted] = waiting[waiter];
      RC_ASSERT(flight.versions.contains(page));
      RC_ASSERT(flight.versions.at(page) >= wanted);
      waiting.erase(waiter);
    }
  };
  const auto take = [&] {
    const auto run = pages.take(1 + static_cast<std::uint32_t>(random.below(4)));
    if (!run) return false;
    Flight flight{.run = *run};
    for (std::uint32_t page = run->page; page < run->page + run->count; ++page) {
      for (const Flight& other : flights) RC_ASSERT(!other.versions.contains(page));
      flight.versions[page] = version[page];
    }
    flights.push_back(flight);
    return true;
  };
  for (int i = 0; i < 120; ++i) {
    const auto page = static_cast<std::uint32_t>(random.below(8));
    switch (random.below(4)) {
      case 0:
        ++version[page];
        pages.touch(page);
        break;
      case 1:
        waiting[next] = {page, ++version[page]};
        pages.want(page, next++);
        break;
      case 2:
        (void)take();
        break;
      default:
        if (!flights.empty()) land(random.below(flights.size()));
    }
  }
  do {
    while (!flights.empty()) land(0);
  } while (take());
  RC_ASSERT(waiting.empty());
}

}  // namespace
}  // namespace tiercel::disk
