// What the opaque handles of c.h hold. Each owns its C++ object; those outlive one another in any order by themselves.
#pragma once

#include <tiercel/block.h>
#include <tiercel/c.h>
#include <tiercel/cache.h>
#include <tiercel/session.h>

#include <span>

struct tiercel_cache {
  tiercel::Cache cache;
};

struct tiercel_session {
  tiercel::Session session;
};

struct tiercel_chain {
  tiercel::BlockChain chain;
};

struct tiercel_load {
  tiercel::Load load;
  std::span<const tiercel::BlockRef> ready{};  ///< after the wait
  bool waited = false;
};

struct tiercel_reservation {
  tiercel::Reservation reservation;
};

struct tiercel_pin {
  tiercel::Pin pin;
};
