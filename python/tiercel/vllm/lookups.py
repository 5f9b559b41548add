"""Lookups, on the scheduler's side: what of a request's prompt the cache has, held for it until it is loaded.

A lease is a load of the leading blocks that the cache has: it brings them from disk into the arena, verifies them there and
keeps them. Every question of the scheduler renews it; one that is not asked for any more ends after a while. It turns into
the pin of a copy when the engine has allocated blocks, and then ends only when every rank has reported.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import tiercel
from tiercel import TierId

LEASE_S = 10.0
MAX_LEASES = 64  # that hold blocks; a request beyond them waits until one ends
_GLANCE_S = 0.002  # for blocks that are in RAM: one round trip


@dataclass
class Lease:
    """An answer to one request."""

    load: tiercel.Load | None  # None: nothing of use was there
    asked: int  # blocks
    host_only: bool = True
    ready: int = 0  # leading blocks, once it is done
    local_blocks: int = 0  # what the engine itself had, when it was asked last
    in_step: bool = False  # how it was promised last: the step that the request is in waits for it
    used_at: float = field(default_factory=time.monotonic)

    @property
    def is_done(self) -> bool:
        """Looks, without waiting longer than a round trip to RAM takes."""
        if self.load is None or self.ready:
            return True
        until = time.monotonic() + (_GLANCE_S if self.host_only else 0)
        while not self.load.done:
            if time.monotonic() > until:
                return False
            time.sleep(0)
        self.ready = self.load.ready or 0
        if not self.ready:
            self.end()
        return True

    @property
    def is_stale(self) -> bool:
        return time.monotonic() > self.used_at + LEASE_S

    def renew(self) -> None:
        self.used_at = time.monotonic()

    def end(self) -> None:
        if self.load is not None:
            self.load.close()
            self.load = None


def take_lease(session: tiercel.Session, chain: tiercel.BlockChain, local_blocks: int, most_blocks: int, deadline_s: float) -> tuple[Lease, int]:
    """The lease, and how many leading blocks of the chain the cache has."""
    match = session.match(chain)
    there = min(match.blocks, most_blocks)
    if there <= local_blocks:
        return Lease(None, 0), match.blocks
    host_only = match.blocks_in(TierId.HOST) == match.blocks or all(TierId.HOST in match.tiers(block) for block in range(there))
    return Lease(session.load(chain, there, deadline_s), there, host_only), match.blocks
