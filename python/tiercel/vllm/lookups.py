"""Lookups, on the scheduler's side: what of a request's prompt the cache has, held for it until it is loaded.

A lease is a load of the leading blocks that the cache has: it brings them from disk into the arena, verifies them there and
keeps them. Every question of the scheduler renews it; one that is not asked for any more ends after a while. It turns into
the pin of a copy when the engine has allocated blocks, and then ends only when every rank has reported.

Blocks that would come from disk later than they are computed are left there: the request gets those before them. Meanwhile
they are brought into RAM beside it, one request's at a time, for whoever asks next; that also tells when the disk is faster.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import tiercel
from tiercel import TierId

from .pace import Pace

LEASE_S = 10.0
MAX_LEASES = 64  # that hold blocks; a request beyond them waits until one ends
_GLANCE_S = 0.002  # for blocks that are in RAM: one round trip
_PROMOTION_S = 30.0


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


class Lookups:
    def __init__(self, pace: Pace, block_tokens: int, deadline_s: float) -> None:
        self._pace, self._block_tokens, self._deadline_s = pace, block_tokens, deadline_s
        self._promotion: tiercel.Load | None = None
        self.left_blocks = 0  # on disk, because computing them is faster

    def take_lease(self, session: tiercel.Session, chain: tiercel.BlockChain, local_blocks: int, most_blocks: int) -> tuple[Lease, int]:
        """The lease, and how many leading blocks of the chain the cache has."""
        match = session.match(chain)
        there = min(match.blocks, most_blocks)
        if there <= local_blocks:
            return Lease(None, 0), match.blocks
        missing = self._missing(match, there)
        if missing:
            beyond = match.blocks - match.blocks_in(TierId.HOST)  # that the prediction is for
            load_s = None if match.predicted_load_s is None else match.predicted_load_s * len(missing) / beyond
            if self._pace.is_slower(load_s, (there - max(missing[0], local_blocks)) * self._block_tokens):
                self._promote(session, chain, there)
                self.left_blocks += sum(block >= local_blocks for block in missing)
                there, missing = missing[0], []
                if there <= local_blocks:
                    return Lease(None, 0), match.blocks
        return Lease(session.load(chain, there, self._deadline_s), there, not missing), match.blocks

    @property
    def has_work(self) -> bool:
        """What was brought into RAM is held until look() is called."""
        return self._promotion is not None

    def look(self) -> None:
        if self._promotion is not None and self._promotion.done:
            self.end()

    def end(self) -> None:
        if self._promotion is not None:
            self._promotion.close()
            self._promotion = None

    @staticmethod
    def _missing(match: tiercel.Match, there: int) -> list[int]:
        """Blocks that are not in RAM, of the first ones."""
        if match.blocks_in(TierId.HOST) == match.blocks:
            return []
        return [block for block in range(there) if TierId.HOST not in match.tiers(block)]

    def _promote(self, session: tiercel.Session, chain: tiercel.BlockChain, blocks: int) -> None:
        self.look()
        if self._promotion is None:
            self._promotion = session.load(chain, blocks, _PROMOTION_S)
