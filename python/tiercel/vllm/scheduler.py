"""The scheduler's side: what each request may load, and what is stored of it.

One record a request, from its arrival to its end. get_num_new_matched_tokens answers from a lease (lookups.py) and may be
asked again and again; every order goes out with the metadata of a step; what the workers answer comes back with its output.
All calls come from the scheduler's thread. The service is asked on it too: a question in RAM is one round trip, and none
waits longer than CALL_DEADLINE_S for a service that does not answer.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tiercel

from .keys import AdapterDigests, NoKeysError, extra_keys
from .lookups import MAX_LEASES, Lease, Lookups, Wish
from .messages import LoadOrder, Orders, Report
from .opening import Opening
from .pace import Pace, Prefill
from .settings import Settings
from .stores import Source, Stores

if TYPE_CHECKING:
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.request import Request

    from .events import Events

_TELL_S = 1.0  # between what the service is told for people to see

log = logging.getLogger("tiercel")


@dataclass
class _Tracked:
    """A request, from its arrival to its end."""

    request: Request
    may_load: bool
    may_store: bool
    epoch: bytes = b""  # of the cache when its KV was begun
    chain: tiercel.BlockChain | None = None
    tenant: str = ""  # of the chain
    lease: Lease | None = None
    blocks: list[int] = field(default_factory=list)
    stored: int = 0  # blocks that need not be looked at any more
    stopped: bool = False  # nothing more of it is stored
    was_scheduled: bool = False  # in a step before this one: what it counts as computed has been submitted


@dataclass
class _Loading:
    load: tiercel.Load
    blocks: tuple[int, ...]


class Scheduler:
    def __init__(self, settings: Settings, block_tokens: int, ranks: int, *, loads: bool, stores: bool, step_tokens: int,
                 events: Events | None = None) -> None:
        self._settings, self._block_tokens = settings, block_tokens
        self._loads_on, self._stores_on = loads, stores
        self._opening: Opening | None = None
        self._tracked: dict[str, _Tracked] = {}
        self._loading: dict[str, _Loading] = {}
        self._in_steps: set[int] = set()  # LoadOrder.in_step of loads that their steps wait for
        self._next_in_step = 1
        self._orders: list[LoadOrder] = []
        self._adapters = AdapterDigests()
        self._epoch = b""
        self._said: set[str] = set()
        self._leased: set[str] = set()
        self._waiting: set[str] = set()  # requests that were in no step yet
        self._due: set[str] = set()  # requests of which there may be something to store
        self._pace = Pace()
        self._tell_at = 0.0
        self.lookups = Lookups(settings.load_deadline_s)
        self.stores = Stores(ranks, events, step_tokens // block_tokens)
        self.hit_tokens = self.asked_tokens = self.loads = self.step_loads = self.failed_loads = 0

    @property
    def session(self) -> tiercel.Session | None:
        return self._opening.session if self._opening is not None else None

    def begin(self, opening: Opening) -> None:
        self._opening = opening

    def bind_pool(self, pool: BlockPool) -> None:
        self.stores.bind(pool)

    @property
    def has_work(self) -> bool:
        """The engine has to go on stepping, although it may have no request."""
        copies = self.stores.has_work or bool(self._loading or self._in_steps)  # an engine falls asleep when none is left
        return copies or (self._opening is not None and self._opening.is_near)

    def add(self, request: Request) -> None:
        self._tracked[request.request_id] = self._track(request)
        self._waiting.add(request.request_id)

    def matched(self, request: Request, local_tokens: int) -> tuple[int | None, bool]:
        tracked = self._tracked.get(request.request_id)
        if tracked is None:
            tracked = self._tracked[request.request_id] = self._track(request)
        if tracked.epoch != self._epoch:  # nothing of its KV was computed yet, or it was preempted
            self._begin_anew(tracked)
        if not tracked.may_load or self._opening is None or local_tokens % self._block_tokens:
            return 0, False
        if self._opening.is_near:
            return None, False  # the ranks are opening their sessions
        session = self.session
        if session is None or not self._grow(tracked, session):
            return 0, False
        local = local_tokens // self._block_tokens
        most = (request.num_tokens - 1) // self._block_tokens
        if most <= local:
            self._end_lease(tracked)
            return 0, False
        if tracked.lease is None or tracked.lease.is_stale:
            self._end_lease(tracked)
            if len(self._leased) >= MAX_LEASES:
                return None, False
            assert tracked.chain is not None
            self._leased.add(request.request_id)
            waiting = len(self._waiting) - (request.request_id in self._waiting)
            wish = Wish(request.num_tokens, local, most, waiting)
            tracked.lease, there = self.lookups.take_lease(session, tracked.chain, wish, self._block_tokens)
            tracked.stored = max(tracked.stored, there)
            self.asked_tokens += (most - local) * self._block_tokens
        lease = tracked.lease
        lease.renew()
        if not lease.is_done:
            return None, False
        self.lookups.take_left(lease)
        lease.local_blocks = local
        tokens = (min(lease.ready, most) - local) * self._block_tokens
        if tokens <= 0:
            return 0, False
        lease.in_step = lease.host_only and self._can_wait and not self._is_busy(request.request_id)
        return tokens, not lease.in_step

    def allocated(self, request: Request, blocks: Any, tokens: int) -> None:
        tracked = self._tracked[request.request_id]
        lease, tracked.lease = tracked.lease, None
        self._leased.discard(request.request_id)
        if tokens == 0:
            if lease is not None:
                lease.end()
            return
        first, count = (lease.local_blocks if lease else 0), tokens // self._block_tokens
        targets = tuple(blocks.get_block_ids()[0][first : first + count])
        if lease is None or lease.load is None or len(targets) != count or first + count > lease.ready or tracked.chain is None:
            raise RuntimeError(f"TiercelConnector: request {request.request_id} is to load {tokens} tokens into {len(targets)} blocks, which is not "
                               "what it was promised")
        number, shared = 0, None
        if lease.in_step:
            shared = self._opening.shared if self._opening is not None else None
            assert shared is not None
            number, self._next_in_step = self._next_in_step, self._next_in_step + 1
            self._in_steps.add(number)
            shared.loads[number] = lease.load
            self.step_loads += 1
        else:
            self._loading[request.request_id] = _Loading(lease.load, targets)
        order = LoadOrder(request.request_id, tracked.chain.hash_bytes(0, first + count), first, targets, number, tracked.tenant)
        if shared is not None and shared.start is not None:
            shared.start(order)
        self._orders.append(order)
        self.hit_tokens += tokens
        self.loads += 1

    def orders(self, output: SchedulerOutput) -> Orders:
        self._follow(output)
        self.stores.check_ranks()
        for tracked in [self._tracked[name] for name in self._leased]:
            if tracked.lease is None or tracked.lease.is_stale:
                self._end_lease(tracked)
        session = self.session
        if session is not None and self._stores_on:
            due, self._due = self._due, set()
            for request_id in due:
                source = self._plan_stores(session, self._tracked[request_id]) if request_id in self._tracked else None
                if source is not None and source.next < source.end and not source.stopped:
                    self._due.add(request_id)
            self.stores.plan_left_over(session)
        for request_id in output.num_scheduled_tokens:
            if request_id in self._tracked:
                self._tracked[request_id].was_scheduled = True
                self._waiting.discard(request_id)
                self._due.add(request_id)
        loads, self._orders = self._orders, []
        step = self._pace.begin_step(output.total_num_scheduled_tokens, waits=any(load.in_step for load in loads),
                                     largest=_largest_prefill(output))
        self._tell(session)
        return Orders(self._opening.plan if self._opening is not None else None, loads, self.stores.take_orders(), step)

    def answered(self, received: Iterable[str], bad_blocks: set[int], report: Report | None) -> None:
        """What came back with a step's output."""
        prefills = self._pace.answered(report.steps if report is not None else ())
        if prefills and (session := self.session) is not None:
            for prefill, seconds in prefills:
                session.report_prefill_time(prefill.context_tokens, prefill.tokens, seconds)
        if bad_blocks:
            for request_id, loading in self._loading.items():
                tracked = self._tracked.get(request_id)
                if tracked is not None and not bad_blocks.isdisjoint(loading.blocks):
                    tracked.may_load, tracked.stored = False, 0  # it is computed now; a second promise could fail again
                    self.failed_loads += 1
        for request_id in received:
            loading = self._loading.pop(request_id, None)
            if loading is not None:
                loading.load.close()
        if report is not None:
            self._in_steps -= report.loaded
            if self._opening is not None:
                self._opening.opened(report.opened)
            self.stores.reported(report)

    def finished(self, request: Request) -> None:
        """Before its blocks are given back; what of them is held stays."""
        tracked = self._tracked.pop(request.request_id, None)
        self._waiting.discard(request.request_id)
        if tracked is None:
            return
        self._end_lease(tracked)
        session = self.session
        if session is None or not self._stores_on:
            return
        source = self._plan_stores(session, tracked)
        if source is not None:
            self.stores.leave_over(source)

    def reset(self) -> None:
        """Nothing that this engine has stored so far is found by it again; other engines keep it."""
        self._epoch = secrets.token_bytes(16)
        self.stores.forget()
        for tracked in self._tracked.values():
            self._end_lease(tracked)

    def close(self) -> None:
        for tracked in self._tracked.values():
            self._end_lease(tracked)
        for loading in self._loading.values():
            loading.load.close()
        self.stores.close()
        if self._opening is not None:
            self._opening.close()

    def _tell(self, session: tiercel.Session | None) -> None:
        """The service, what people look at there: how full the engine's own KV is, and how fast its prefill."""
        now = time.monotonic()
        if session is None or now < self._tell_at:
            return
        self._tell_at = now + _TELL_S
        free, total = self.stores.pool_blocks
        size = session.block_bytes
        session.report_pool(used_bytes=(total - free) * size, free_bytes=free * size, total_bytes=total * size)
        if self._pace.tokens_per_s > 0:
            session.report_prefill(self._pace.tokens_per_s * size / self._block_tokens)

    def _track(self, request: Request) -> _Tracked:
        wishes = request.kv_transfer_params or {}
        may_load = self._loads_on and not request.skip_reading_prefix_cache and self._wish(wishes, "tiercel_load")
        may_store = self._stores_on and self._wish(wishes, "tiercel_store")
        if getattr(request, "resumable", False):  # its last token is replaced when its input goes on
            may_load = may_store = False
        return _Tracked(request, may_load, may_store, self._epoch)

    @property
    def _can_wait(self) -> bool:
        """A step can wait for a load: of the one rank, in this process."""
        shared = self._opening.shared if self._opening is not None else None
        return shared is not None and shared.is_ready

    def _is_busy(self, request_id: str) -> bool:
        """Something else runs or is being loaded beside steps, and would stand still with a step that waits."""
        return bool(self._loading) or any(t.was_scheduled and name != request_id for name, t in self._tracked.items())

    def _wish(self, wishes: dict[str, Any], key: str) -> bool:
        value = wishes.get(key, True)
        if not isinstance(value, bool):
            self._say(f"kv_transfer_params.{key}: {value!r} must be true or false; it is taken as false")
            return False
        return value

    def _say(self, text: str) -> None:
        """A warning, once a cause."""
        if text not in self._said and len(self._said) < 100:
            self._said.add(text)
            log.warning("TiercelConnector: %s", text)

    def _begin_anew(self, tracked: _Tracked) -> None:
        self._end_lease(tracked)
        tracked.epoch, tracked.chain, tracked.stored, tracked.stopped = self._epoch, None, 0, False

    def _end_lease(self, tracked: _Tracked) -> None:
        self._leased.discard(tracked.request.request_id)
        if tracked.lease is not None:
            tracked.lease.end()
            tracked.lease = None

    def _grow(self, tracked: _Tracked, session: tiercel.Session) -> bool:
        """Brings its chain up to the tokens that are known. False: it has none."""
        request = tracked.request
        if tracked.chain is None:
            try:
                assert self._opening is not None
                tracked.tenant = self._opening.tenant_of(request.cache_salt)
                keys = extra_keys(request, self._adapters, tracked.epoch, tracked.tenant)
            except NoKeysError as error:
                self._say(str(error))
                tracked.may_load = tracked.may_store = False
                return False
            tracked.chain = tiercel.BlockChain(session.space(tracked.tenant), (), keys)
        chain = tracked.chain
        if request.num_tokens // self._block_tokens > len(chain):
            chain.append(request.all_token_ids[chain.tokens : request.num_tokens])
        return True

    def _follow(self, output: SchedulerOutput) -> None:
        """Which blocks requests have."""
        for request_id in getattr(output, "preempted_req_ids", None) or ():
            if request_id in self._tracked:
                tracked = self._tracked[request_id]
                tracked.blocks, tracked.was_scheduled = [], False
        for new in output.scheduled_new_reqs:
            if new.req_id in self._tracked:
                self._tracked[new.req_id].blocks = list(new.block_ids[0])
        cached = output.scheduled_cached_reqs
        for request_id, more in zip(cached.req_ids, cached.new_block_ids):
            tracked = self._tracked.get(request_id)
            if tracked is None:
                continue
            if request_id in cached.resumed_req_ids:
                tracked.blocks = list(more[0]) if more else []
            elif more:
                tracked.blocks += more[0]

    def _plan_stores(self, session: tiercel.Session, tracked: _Tracked) -> Source | None:
        """Of what steps before this one have computed."""
        if not tracked.may_store or tracked.stopped or not tracked.was_scheduled or tracked.epoch != self._epoch:
            return None
        request = tracked.request
        # Placeholders stand for tokens that steps in flight are to sample; drafts are among them.
        confirmed = min(request.num_computed_tokens - request.num_output_placeholders, request.num_tokens)
        end = min(confirmed // self._block_tokens, len(tracked.blocks))
        if end <= tracked.stored or not self._grow(tracked, session):
            return None
        assert tracked.chain is not None
        source = Source(tracked.chain, tracked.blocks, tracked.stored, end, request=request if self.stores.events is not None else None)
        self.stores.plan(session, source)
        tracked.stored, tracked.stopped = source.next, source.stopped
        return source


def _largest_prefill(output: SchedulerOutput) -> Prefill | None:
    """The request with the most tokens in the step."""
    scheduled = output.num_scheduled_tokens
    if not scheduled:
        return None
    largest = max(scheduled, key=scheduled.__getitem__)
    for new in output.scheduled_new_reqs:
        if new.req_id == largest:
            return Prefill(new.num_computed_tokens, scheduled[largest])
    cached = output.scheduled_cached_reqs
    for request_id, computed in zip(cached.req_ids, cached.num_computed_tokens):
        if request_id == largest:
            return Prefill(computed, scheduled[largest])
    return None
