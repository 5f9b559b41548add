"""Stores, on the scheduler's side: which full blocks go to the cache, and what is held until they are there.

A block is storable when it is full and its tokens are confirmed. It is reserved, held in the engine's pool (one reference
more, so that whatever happens to its request its bytes stay), ordered with the next step's metadata, and let go when every
rank has reported. Of finished requests at most 2 % of the pool, and at least one block, is held at a time. A running one has
its blocks anyway: there it is as much as two steps compute, for a store is ordered with one step and reported with the next,
and at most an eighth of the pool. What does not fit then follows later: of a running request with its next steps, of a
finished one as long as its blocks still lie in the pool's prefix cache, which the pool's own hash of each block tells. Where the cache is busy it is asked again after a while, longer each time; what is
left over of finished requests is given up when it has been busy for too long, for somebody must step the engine meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tiercel
from tiercel import Reserved

from .messages import Report, StoreOrder

if TYPE_CHECKING:
    from vllm.v1.core.block_pool import BlockPool

    from .events import Events

HELD_SHARE = 0.02
RUNNING_SHARE = 0.125
_LEFT_OVER = 1024  # finished requests whose blocks are still to be stored
_BUSY_FIRST_S, _BUSY_MOST_S = 0.02, 1.0  # between questions to a cache that is busy
_BUSY_LEFT_OVER_S = 10.0  # that it may be busy before what is left over is given up
_REPORT_S = 300.0  # a rank that has not reported until then is lost, and the engine with it

log = logging.getLogger("tiercel")


@dataclass
class Source:
    """Blocks of one request: positions [next, end) of its chain may be stored."""

    chain: tiercel.BlockChain
    blocks: Sequence[int]  # ids in the engine's pool, from position 0 on
    next: int
    end: int = 0
    stopped: bool = False  # no parent, or no session: nothing more of it
    request: Any = None  # whose they are, where events tell what was stored


@dataclass
class _LeftOver:
    source: Source
    pool_hashes: dict[int, Any]  # by position


@dataclass
class _InFlight:
    reservation: tiercel.Reservation
    held: list[Any]
    positions: tuple[int, ...]
    since: float
    request: Any
    ranks_done: int = 0
    ranks_failed: int = 0
    left_over: bool = False  # of a finished request
    void: bool = False  # the cache was reset meanwhile


class Stores:
    def __init__(self, ranks: int, events: Events | None = None, step_blocks: int = 0) -> None:
        """step_blocks: that a step of the engine computes at most."""
        self._ranks, self.events, self._step_blocks = ranks, events, step_blocks
        self._pool: BlockPool | None = None
        self._limit = self._running_limit = 0
        self._held = self._held_left_over = 0
        self._next_id = 0
        self._orders: list[StoreOrder] = []
        self._in_flight: dict[int, _InFlight] = {}
        self._left_over: deque[_LeftOver] = deque()
        self._busy_s = self._busy_since = self._ask_at = 0.0  # 0: it was not busy when it was asked last
        self.stored_blocks = self.failed_blocks = self.refused_blocks = self.lost_blocks = 0

    def bind(self, pool: BlockPool) -> None:
        self._pool = pool
        self._limit = max(1, int(pool.num_gpu_blocks * HELD_SHARE))
        self._running_limit = max(self._limit, min(2 * self._step_blocks, int(pool.num_gpu_blocks * RUNNING_SHARE)))

    @property
    def limit(self) -> int:
        """Blocks of finished requests that are held at most."""
        return self._limit

    @property
    def running_limit(self) -> int:
        """Blocks of all requests together."""
        return self._running_limit

    @property
    def pool_blocks(self) -> tuple[int, int]:
        """Free, and all."""
        return (self._pool.get_num_free_blocks(), self._pool.num_gpu_blocks) if self._pool is not None else (0, 0)

    @property
    def held_blocks(self) -> int:
        return self._held

    @property
    def has_work(self) -> bool:
        return bool(self._in_flight or self._orders or self._left_over)

    def plan(self, session: tiercel.Session, source: Source) -> None:
        """Reserves and holds what of this source fits now."""
        while not source.stopped and source.next < source.end and self._held < self._running_limit and not self._is_busy:
            self._reserve(session, source, min(source.end - source.next, self._running_limit - self._held))

    def leave_over(self, source: Source) -> None:
        """Of a request whose blocks the pool is about to get back."""
        if source.stopped or source.next >= source.end or self._pool is None:
            return
        hashes = {place: self._pool.blocks[source.blocks[place]].block_hash for place in range(source.next, source.end)}
        if len(self._left_over) == _LEFT_OVER:
            oldest = self._left_over.popleft()
            self.lost_blocks += oldest.source.end - oldest.source.next
        self._left_over.append(_LeftOver(source, hashes))

    def plan_left_over(self, session: tiercel.Session) -> None:
        if self._busy_s and self._left_over and time.monotonic() > self._busy_since + _BUSY_LEFT_OVER_S:
            for left in self._left_over:
                self.refused_blocks += left.source.end - left.source.next
            self._left_over.clear()
            self._busy_s = 0.0
        while self._left_over and (room := self._left_over_room) > 0 and not self._is_busy:
            left = self._left_over[0]
            source, whole = left.source, left.source.end
            source.end = self._still_there(left, min(whole, source.next + room))
            while not source.stopped and source.next < source.end and not self._is_busy:
                self._reserve(session, source, source.end - source.next, left_over=True)
            if source.end < whole and source.next == source.end and not self._is_there(left, source.next):
                self.lost_blocks += whole - source.next
                source.stopped = True
            source.end = whole
            if source.stopped or source.next >= whole:
                self._left_over.popleft()

    @property
    def _left_over_room(self) -> int:
        return min(self._limit - self._held_left_over, self._running_limit - self._held)

    def take_orders(self) -> list[StoreOrder]:
        orders, self._orders = self._orders, []
        return orders

    def reported(self, report: Report) -> None:
        for store_id, ranks in report.stored.items():
            self._in_flight[store_id].ranks_done += ranks
        for store_id, ranks in report.failed.items():
            self._in_flight[store_id].ranks_done += ranks
            self._in_flight[store_id].ranks_failed += ranks
        for store_id in {*report.stored, *report.failed}:
            if self._in_flight[store_id].ranks_done == self._ranks:
                self._end(self._in_flight.pop(store_id))

    def check_ranks(self) -> None:
        """RuntimeError: a rank is silent. Its copies may still run, so the blocks can never be given back."""
        for store_id, store in self._in_flight.items():
            age = time.monotonic() - store.since
            if age > _REPORT_S:
                raise RuntimeError(f"TiercelConnector: store {store_id} was reported by {store.ranks_done} of {self._ranks} ranks after {age:.0f} s; "
                                   f"its {len(store.held)} blocks cannot be given back")

    def forget(self) -> None:
        """Nothing that is planned or in flight is to be found afterwards. What is in flight stays held until it ends."""
        self._left_over.clear()
        for store in self._in_flight.values():
            store.void = True

    def close(self) -> None:
        for store in self._in_flight.values():
            store.reservation.close()
        self._in_flight.clear()
        self._left_over.clear()

    @property
    def _is_busy(self) -> bool:
        return self._busy_s > 0 and time.monotonic() < self._ask_at

    def _was_busy(self) -> None:
        now = time.monotonic()
        if not self._busy_s or now > self._ask_at + _BUSY_MOST_S:  # nobody has asked since: it may not have been
            self._busy_since, self._busy_s = now, 0.0
        self._busy_s = min(max(2 * self._busy_s, _BUSY_FIRST_S), _BUSY_MOST_S)
        self._ask_at = now + self._busy_s

    def _is_there(self, left: _LeftOver, place: int) -> bool:
        assert self._pool is not None
        expected = left.pool_hashes[place]
        return expected is not None and self._pool.blocks[left.source.blocks[place]].block_hash == expected

    def _still_there(self, left: _LeftOver, end: int) -> int:
        place = left.source.next
        while place < end and self._is_there(left, place):
            place += 1
        return place

    def _reserve(self, session: tiercel.Session, source: Source, count: int, *, left_over: bool = False) -> None:
        assert self._pool is not None
        room = session.reserve(source.chain, source.next, count)
        positions = []
        answered = len(room)
        busy = False
        for i in range(len(room)):
            outcome = room.outcome(i)
            if outcome == Reserved.YES:
                positions.append(source.next + i)
            elif outcome not in (Reserved.EXISTS, Reserved.IN_FLIGHT):
                answered, busy = i, outcome == Reserved.BUSY
                break
        source.next += answered
        if busy:
            self._was_busy()
        elif answered < count:
            source.stopped = True
            self.refused_blocks += source.end - source.next
        if positions and not busy:
            self._busy_s = 0.0
        if not positions:
            room.close()
            return
        blocks = tuple(source.blocks[place] for place in positions)
        held = [self._pool.blocks[block] for block in blocks]
        self._pool.touch(held)
        self._held += len(held)
        self._held_left_over += len(held) * left_over
        store_id, self._next_id = self._next_id, self._next_id + 1
        self._in_flight[store_id] = _InFlight(room, held, tuple(positions), time.monotonic(), source.request, left_over=left_over)
        self._orders.append(StoreOrder(store_id, room.id, tuple(positions), blocks))

    def _end(self, store: _InFlight) -> None:
        assert self._pool is not None
        self._pool.free_blocks(reversed(store.held))
        self._held -= len(store.held)
        self._held_left_over -= len(store.held) * store.left_over
        published = 0
        if not store.ranks_failed and not store.void:
            try:
                published = store.reservation.commit_all().blocks
            except tiercel.Error as error:
                log.debug("TiercelConnector: a commit failed: %s", error)
        store.reservation.close()
        if self.events is not None and store.request is not None and published == len(store.held):
            self.events.stored(store.request, store.positions)
        self.stored_blocks += published
        self.failed_blocks += len(store.held) - published
