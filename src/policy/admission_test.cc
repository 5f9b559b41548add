#include "policy/admission.h"

#include <gtest/gtest.h>

#include <cstring>

namespace tiercel {
namespace {

BlockHash hash_of(std::uint64_t place, std::uint32_t tag) {
  BlockHash hash;
  std::memcpy(hash.bytes.data(), &place, sizeof place);
  std::memcpy(hash.bytes.data() + sizeof place, &tag, sizeof tag);
  return hash;
}

TEST(AdmitAll, TakesEveryBlockAtOnce) {
  AdmitAll policy;
  EXPECT_TRUE(policy.admit(hash_of(1, 1)));
}

TEST(SecondSight, TakesABlockTheSecondTime) {
  SecondSight policy(1024);
  EXPECT_FALSE(policy.admit(hash_of(7, 11)));
  EXPECT_FALSE(policy.admit(hash_of(7, 13)));
  EXPECT_TRUE(policy.admit(hash_of(7, 11)));
  EXPECT_TRUE(policy.admit(hash_of(7, 11)));
}

TEST(SecondSight, ForgetsTheOldestOfAFullSet) {
  SecondSight policy(1024);
  for (std::uint32_t tag = 1; tag <= 9; tag += 2) EXPECT_FALSE(policy.admit(hash_of(3, tag)));  // five in a set of four
  EXPECT_TRUE(policy.admit(hash_of(3, 3)));   // the second is still known
  EXPECT_FALSE(policy.admit(hash_of(3, 1)));  // the first is not
}

TEST(SecondSight, AUseKeepsABlockKnown) {
  SecondSight policy(1024);
  EXPECT_FALSE(policy.admit(hash_of(3, 1)));
  for (std::uint32_t tag = 3; tag <= 7; tag += 2) EXPECT_FALSE(policy.admit(hash_of(3, tag)));
  EXPECT_TRUE(policy.admit(hash_of(3, 1)));  // the oldest becomes the newest
  EXPECT_FALSE(policy.admit(hash_of(3, 9)));
  EXPECT_TRUE(policy.admit(hash_of(3, 1)));
}

}  // namespace
}  // namespace tiercel
