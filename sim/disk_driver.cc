#include "sim/disk_driver.h"

namespace tiercel::sim {
namespace {

constexpr int kMostTurnsToRunOut = 10'000;

}  // namespace

bool DiskDriver::run() {
  --turns_;
  ended_ = !core_.step_disk(index_, 0);
  const bool did = files_.disk(index_).take_poke();
  if (did) turns_ = kTurns;
  return did;
}

void DiskDriver::run_out() {
  for (int turn = 0; turn < kMostTurnsToRunOut && !ended_; ++turn) ended_ = !core_.step_disk(index_, 0);
}

}  // namespace tiercel::sim
