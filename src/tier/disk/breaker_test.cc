// Goal: a device that fails or stalls is left alone, tried at intervals, and used again when one try succeeds.
#include "tier/disk/breaker.h"

#include <gtest/gtest.h>

namespace tiercel::disk {
namespace {

constexpr Breaker::Options kOptions{.failures = 3, .window_ns = 1000, .probe_interval_ns = 100, .quarantine_bytes = 50};

TEST(Breaker, FailuresInARowOpenItAndASuccessBetweenDoesNot) {
  Breaker breaker(kOptions);
  breaker.on_read_failure(1, "a");
  breaker.on_read_failure(2, "b");
  breaker.on_read_ok();
  breaker.on_read_failure(3, "c");
  breaker.on_read_failure(4, "d");
  EXPECT_FALSE(breaker.reads_open());
  breaker.on_read_failure(5, "e");
  EXPECT_TRUE(breaker.reads_open());
  EXPECT_EQ(breaker.cause(), "e");
  EXPECT_EQ(breaker.trips(), 1U);
}

TEST(Breaker, FailuresOutsideTheWindowDoNotAddUp) {
  Breaker breaker(kOptions);
  breaker.on_read_failure(1, "a");
  breaker.on_read_failure(2, "b");
  breaker.on_read_failure(1500, "c");
  EXPECT_FALSE(breaker.reads_open());
}

TEST(Breaker, OneStallOpensIt) {
  Breaker breaker(kOptions);
  breaker.on_stall(7, "stall");
  EXPECT_TRUE(breaker.reads_open());
  EXPECT_FALSE(breaker.writes_open());
}

TEST(Breaker, TheProbeComesAfterTheIntervalAndOneAtATime) {
  Breaker breaker(kOptions);
  EXPECT_EQ(breaker.next_probe(), UINT64_MAX);
  breaker.on_stall(7, "stall");
  EXPECT_EQ(breaker.next_probe(), 107U);
  EXPECT_EQ(breaker.take_probe(106), Breaker::Probe::kNone);
  EXPECT_EQ(breaker.take_probe(107), Breaker::Probe::kRead);
  EXPECT_EQ(breaker.take_probe(500), Breaker::Probe::kNone);
  breaker.on_probe(false, 600, "still");
  EXPECT_EQ(breaker.cause(), "still");
  EXPECT_EQ(breaker.next_probe(), 700U);
  EXPECT_EQ(breaker.take_probe(700), Breaker::Probe::kRead);
  breaker.on_probe(true, 710, "");
  EXPECT_FALSE(breaker.reads_open());
  EXPECT_EQ(breaker.probes(), 2U);
}

TEST(Breaker, AWriteErrorStopsWritesAloneAndItsProbeIsAWrite) {
  Breaker breaker(kOptions);
  breaker.on_write_failure(7, "full");
  EXPECT_TRUE(breaker.writes_open());
  EXPECT_FALSE(breaker.reads_open());
  EXPECT_EQ(breaker.cause(), "full");
  EXPECT_EQ(breaker.take_probe(107), Breaker::Probe::kWrite);
  breaker.on_probe(true, 110, "");
  EXPECT_FALSE(breaker.writes_open());
}

TEST(Breaker, BothSidesOpenAreClosedOneAfterTheOther) {
  Breaker breaker(kOptions);
  breaker.on_write_failure(0, "full");
  breaker.on_stall(0, "stall");
  EXPECT_EQ(breaker.take_probe(100), Breaker::Probe::kRead);
  breaker.on_probe(true, 110, "");
  EXPECT_FALSE(breaker.reads_open());
  EXPECT_TRUE(breaker.writes_open());
  EXPECT_EQ(breaker.take_probe(110), Breaker::Probe::kWrite) << "at once";
  breaker.on_probe(true, 120, "");
  EXPECT_FALSE(breaker.writes_open());
}

TEST(Breaker, QuarantineOverTheBudgetOpensItAndKeepsItOpen) {
  Breaker breaker(kOptions);
  breaker.on_quarantine(50, 0);
  EXPECT_FALSE(breaker.reads_open());
  breaker.on_quarantine(51, 0);
  EXPECT_TRUE(breaker.reads_open());
  EXPECT_EQ(breaker.take_probe(100), Breaker::Probe::kRead);
  breaker.on_probe(true, 110, "");
  EXPECT_TRUE(breaker.reads_open()) << "what it owes is still out";
  breaker.on_quarantine(0, 150);
  EXPECT_EQ(breaker.take_probe(210), Breaker::Probe::kRead);
  breaker.on_probe(true, 220, "");
  EXPECT_FALSE(breaker.reads_open());
}

TEST(Breaker, AnotherFileBeginsWithoutItsPast) {
  Breaker breaker(kOptions);
  breaker.on_stall(0, "stall");
  (void)breaker.take_probe(100);
  breaker.reset();
  EXPECT_FALSE(breaker.reads_open());
  EXPECT_EQ(breaker.next_probe(), UINT64_MAX);
  EXPECT_EQ(breaker.trips(), 1U);
}

}  // namespace
}  // namespace tiercel::disk
