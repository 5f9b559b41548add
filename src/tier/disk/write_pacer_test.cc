// Goal: writes have the device to themselves when nobody reads, little of it beside reads, and never nothing.
#include "tier/disk/write_pacer.h"

#include <gtest/gtest.h>

namespace tiercel::disk {
namespace {

constexpr WritePacer::Options kOptions{.largest_bytes = 40,
                                       .in_flight_bytes = 100,
                                       .operations = 8,
                                       .paced_bytes = 10,
                                       .floor_operations = 2,
                                       .floor_percent = 10,
                                       .window_ns = 1000,
                                       .calm_ns = 500};

TEST(WritePacer, WithoutReadsBytesInFlightAreTheBound) {
  WritePacer pacer(kOptions);
  EXPECT_EQ(pacer.allowance(false, 0), 40U);
  pacer.write_started(40, 0);
  pacer.write_started(40, 0);
  EXPECT_EQ(pacer.allowance(false, 0), 20U);
  pacer.write_started(20, 0);
  EXPECT_EQ(pacer.allowance(false, 0), 0U);
  pacer.write_ended(40);
  EXPECT_EQ(pacer.allowance(false, 0), 40U);
}

TEST(WritePacer, WithoutReadsOperationsAreABoundToo) {
  WritePacer pacer(kOptions);
  for (int i = 0; i < 8; ++i) pacer.write_started(1, 0);
  EXPECT_EQ(pacer.allowance(false, 0), 0U);
}

TEST(WritePacer, BesideReadsOneSmallWriteIsInFlight) {
  WritePacer pacer(kOptions);
  pacer.read_started(10, 0);
  EXPECT_EQ(pacer.allowance(false, 0), 10U);
  pacer.write_started(10, 0);  // half of the bytes
  EXPECT_EQ(pacer.allowance(false, 0), 0U);
  pacer.write_ended(10);
  EXPECT_EQ(pacer.allowance(true, 0), 10U);
}

TEST(WritePacer, BelowTheFloorWritesHaveAFewMore) {
  WritePacer pacer(kOptions);
  pacer.read_started(1000, 0);
  pacer.write_started(10, 0);
  EXPECT_EQ(pacer.allowance(false, 0), 10U) << "one of a hundred bytes so far";
  pacer.write_started(10, 0);
  EXPECT_EQ(pacer.allowance(false, 0), 0U) << "two operations at most";
}

TEST(WritePacer, TheFloorLooksAtTheLastWindowsOnly) {
  WritePacer pacer(kOptions);
  pacer.read_started(10'000, 0);
  pacer.read_ended(0);
  pacer.read_started(10, 2500);
  pacer.write_started(10, 2500);
  EXPECT_EQ(pacer.allowance(false, 2500), 0U) << "half of what counts";
}

TEST(WritePacer, AMomentAfterTheLastReadItIsCalm) {
  WritePacer pacer(kOptions);
  pacer.read_started(10, 0);
  pacer.write_started(10, 0);
  EXPECT_EQ(pacer.next_change(0), UINT64_MAX) << "the read's end comes first";
  pacer.read_ended(100);
  EXPECT_EQ(pacer.allowance(false, 599), 0U);
  EXPECT_EQ(pacer.next_change(599), 600U);
  EXPECT_EQ(pacer.allowance(false, 600), 40U);
  EXPECT_EQ(pacer.allowance(true, 600), 0U) << "a read waits";
}

}  // namespace
}  // namespace tiercel::disk
