"""Lookups, on the scheduler's side: what of a request's prompt the cache has, held for it until it is loaded.

A lease is a load of the leading blocks that the cache has: it brings them from disk into the arena, verifies them there and
keeps them. Every question of the scheduler renews it; one that is not asked for any more ends after a while. It turns into
the pin of a copy when the engine has allocated blocks, and then ends only when every rank has reported.

What of it is worth loading, the cache's planner decides, by how long this engine computes (session.report_prefill_time) and
how long its tiers take: blocks that would come later than they are computed are left where they are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import tiercel
from tiercel import TierId

LEASE_S = 10.0
MAX_LEASES = 64  # that hold blocks; a request beyond them waits until one ends
_GLANCE_S = 0.002  # for blocks that are in RAM: one round trip
_FIRST_GLANCE_S = 0.0005  # for others: where they are left on disk, the answer comes as soon


@dataclass
class Wish:
    """What a request would load, and what the engine computes otherwise."""

    prompt_tokens: int
    local_blocks: int  # that the engine itself has
    most_blocks: int
    waiting: int = 0  # other requests that have not begun


@dataclass
class Lease:
    """An answer to one request."""

    load: tiercel.Load | None  # None: nothing of use was there
    asked: int  # blocks
    in_ram: int = 0  # leading ones that were in RAM
    host_only: bool = True  # of those asked for, and once it is done, of those that came
    left: int = 0  # once it is done: left to be computed, because that is faster
    looked: bool = False
    ready: int = 0  # leading blocks, once it is done
    local_blocks: int = 0  # what the engine itself had, when it was asked last
    in_step: bool = False  # how it was promised last: the step that the request is in waits for it
    used_at: float = field(default_factory=time.monotonic)

    @property
    def is_done(self) -> bool:
        """Looks, without waiting longer than a round trip to RAM takes."""
        if self.load is None or self.ready:
            return True
        glance, self.looked = _GLANCE_S if self.host_only else 0 if self.looked else _FIRST_GLANCE_S, True
        until = time.monotonic() + glance
        while not self.load.done:
            if time.monotonic() > until:
                return False
            time.sleep(0)
        self.ready = self.load.ready or 0
        self.host_only = self.ready <= self.in_ram
        if self.load.outcome == tiercel.LoadOutcome.SLOWER:
            self.left = self.asked - max(self.ready, self.local_blocks)
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


class Lookups:
    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self.left_blocks = 0  # on disk, because computing them is faster

    def take_lease(self, session: tiercel.Session, chain: tiercel.BlockChain, wish: Wish, block_tokens: int) -> tuple[Lease, int]:
        """The lease, and how many leading blocks of the chain the cache has."""
        match = session.match(chain)
        there = min(match.blocks, wish.most_blocks)
        if there <= wish.local_blocks:
            return Lease(None, 0), match.blocks
        in_ram = self._in_ram(match, there)
        load = session.load(chain, there, self._deadline_s, prompt_tokens=wish.prompt_tokens, context_tokens=wish.local_blocks * block_tokens,
                            waiting=wish.waiting)
        return Lease(load, there, in_ram, in_ram == there, local_blocks=wish.local_blocks), match.blocks

    def take_left(self, lease: Lease) -> None:
        """Counts what a lease that is done has left, once."""
        self.left_blocks += lease.left
        lease.left = 0

    @staticmethod
    def _in_ram(match: tiercel.Match, there: int) -> int:
        if match.blocks_in(TierId.HOST) == match.blocks:
            return there
        return next((block for block in range(there) if TierId.HOST not in match.tiers(block)), there)
