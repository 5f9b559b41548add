"""The worker's side: one rank's copies between the engine's pages and the blocks of the cache.

Orders come with each step. A load's blocks are held by the scheduler's own load meanwhile, so the rank's is ready after one
round trip; its copy runs beside the steps, and the request is reported when the copy has ended, with the blocks that did not
come. A store reads pages that earlier steps have filled and the scheduler holds; when the copy has ended its part is
reported. Nothing here waits for a copy but shutdown. All calls come from the worker's thread; one comes from the scheduler,
where that is the same thread: to begin the load that a step will wait for before the step is made ready.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Protocol

import tiercel

from . import shared
from .geometry import RankGeometry, engine_tensors, pages_of
from .layers import LayerRange, LayerWaits
from .messages import LoadOrder, Orders, Report, SessionPlan, StoreOrder

_LOAD_S = 5.0  # for blocks that are in the arena and held
_GLANCE_S = 0.002  # for an answer that is one round trip away
_COPY_S = 60.0  # for a load that a step waits for
_SETTLED_S = 1.0  # without a further registered byte: all is registered, or what the system allows
_SUBMIT_S = 60.0  # a store that found no place in the queue until then is given up
_REOPEN_S = 1.0
_CALL_S = 0.5

log = logging.getLogger("tiercel")


@dataclass
class _StepCopies:
    """Of a load that a step waits for: the layers of each copy, and those copies that have been submitted."""

    ranges: list[LayerRange | None]
    copies: list[tiercel.Copy] = field(default_factory=list)


@dataclass
class _Load:
    order: LoadOrder
    load: tiercel.Load | None = None
    copies: list[tiercel.Copy] = field(default_factory=list)
    usable: int = 0  # blocks that the load gave, of the order's
    failed: bool = False  # nothing was or is being copied


@dataclass
class _Store:
    order: StoreOrder
    give_up_at: float
    copy: tiercel.Copy | None = None


class Stream(Protocol):
    """Where the engine's compute goes: a CUDA stream, or the thread itself."""

    def follow(self) -> int:
        """Called where a step begins: its stream is the one from now on. The handle of the cudaStream_t; 0: there is none."""

    def event(self) -> int:
        """The handle of a cudaEvent_t behind all that is in it; 0: nothing is under way."""


class Worker:
    def __init__(self, geometry: RankGeometry, device: int | None, stream: Stream) -> None:
        self._geometry, self._device, self._stream = geometry, device, stream
        self._thread = 0  # of the last step
        self._started: dict[int, _StepCopies] = {}  # by LoadOrder.in_step, until the orders come
        self._layers = LayerWaits({tensor.name: tensor.layer for tensor in geometry.tensors})
        self._client: tiercel.Client | None = None  # its own; the scheduler's side closes a shared one
        self._shared: shared.Shared | None = None
        self._registered, self._registered_at = 0, 0.0
        self._session: tiercel.Session | None = None
        self._transfer: tiercel.Transfer | None = None
        self._spaces: dict[str, tiercel.Space] = {}  # by tenant
        self._next_try = 0.0
        self._said: set[str] = set()
        self._loads: list[_Load] = []
        self._stores: list[_Store] = []
        self._bad_blocks: set[int] = set()
        self._report = Report()
        self.loaded_bytes = self.stored_bytes = self.failed_loads = self.failed_stores = 0

    def begin_step(self, orders: Orders, *, by_layers: bool = False) -> None:
        """by_layers: before_layer() is called before each layer of this step."""
        if orders.plan is not None:
            self._open(orders.plan)
        if orders.step:
            self._report.steps.add(orders.step)
        stream, self._thread = self._stream.follow(), threading.get_ident()
        event = self._stream.event() if orders.loads or orders.stores or self._stores or self._loads else 0
        self._loads += [_Load(order) for order in orders.loads]
        give_up_at = time.monotonic() + _SUBMIT_S
        self._stores += [_Store(order, give_up_at) for order in orders.stores]
        for load in self._loads:
            if not load.copies and not load.failed:
                if load.order.in_step:
                    self._load_in_step(load, event, stream, by_layers)
                else:
                    self._begin_load(load, event)
        for store in self._stores:
            if store.copy is None:
                self._begin_store(store, event)

    def before_layer(self, name: str) -> None:
        """A layer is about to read its pages."""
        self._layers.before(name, self._wait)

    def after_layers(self) -> None:
        """All layers of the step have been submitted."""
        self._layers.after_step()

    def end_step(self) -> set[str]:
        """Requests whose loads have ended."""
        ended = [load for load in self._loads if self._has_ended(load)]
        if ended:
            self._loads = [load for load in self._loads if load not in ended]
        stored = [store for store in self._stores if store.copy is not None and store.copy.done]
        if stored:
            self._stores = [store for store in self._stores if store not in stored]
            for store in stored:
                self._end_store(store)
        self._report.loaded |= {load.order.in_step for load in ended if load.order.in_step}
        self._look_at_registration()
        return {load.order.request_id for load in ended if not load.order.in_step}

    def take_bad_blocks(self) -> set[int]:
        bad, self._bad_blocks = self._bad_blocks, set()
        return bad

    def take_report(self) -> Report | None:
        report, self._report = self._report, Report()
        return report or None

    def close(self) -> None:
        if self._transfer is not None:
            self._transfer.close()  # waits for the copies in flight
        if self._session is not None:
            self._session.close()
        if self._client is not None:
            self._client.close()
        self._transfer = self._session = self._client = None

    def _open(self, plan: SessionPlan) -> None:
        if self._session is not None:
            self._report.opened.add(self._geometry.rank)  # said until the scheduler has heard it
            return
        if time.monotonic() < self._next_try:
            return
        self._next_try = time.monotonic() + _REOPEN_S
        client = session = None
        try:
            self._shared = shared.find(plan.engine_id)
            if self._shared is None:
                client = tiercel.Client.connect(plan.socket, call_deadline_s=_CALL_S)
            session = plan.open(client or self._shared.client, member=1 + self._geometry.rank)
            self._transfer = tiercel.Transfer.open(session, engine_tensors(self._geometry), device=self._device)
        except tiercel.Error as error:
            if session is not None:
                session.close()
            if client is not None:
                client.close()
            self._say("rank %d has no session: %s", self._geometry.rank, error)
            return
        self._client, self._session = client, session
        if self._shared is not None:
            self._shared.start = self._start
        self._report.opened.add(self._geometry.rank)
        log.info("TiercelConnector: rank %d copies by %s, %d bytes a block", self._geometry.rank, self._transfer.describe(), self._transfer.part_bytes)

    def _say(self, text: str, *values: object) -> None:
        """A warning, once a cause."""
        whole = text % values
        if whole not in self._said and len(self._said) < 100:
            self._said.add(whole)
            log.warning("TiercelConnector: %s", whole)

    def _pages(self, blocks: tuple[int, ...]) -> list[int]:
        assert self._transfer is not None
        return pages_of(blocks, self._transfer.pages_per_block)

    def _begin_load(self, load: _Load, event: int) -> None:
        order = load.order
        if self._session is None or self._transfer is None:
            self._say("rank %d: a load came before there was a session", self._geometry.rank)
            load.failed = True
            return
        if load.load is None:
            space = self._spaces.get(order.tenant) or self._spaces.setdefault(order.tenant, self._session.space(order.tenant))
            chain = tiercel.BlockChain.from_hashes(space, order.hashes)
            load.load = self._session.load(chain, len(chain), _LOAD_S)
        until = time.monotonic() + _GLANCE_S
        while not load.load.done:
            if time.monotonic() > until:
                return  # looked at again at the next step
            time.sleep(0)
        load.usable = (load.load.ready or 0) - order.first
        if load.usable <= 0:
            load.failed = True
            return
        try:
            load.copies = [self._transfer.load(load.load, self._pages(order.blocks[: load.usable]), first=order.first, after_event=event)]
        except tiercel.LimitError:
            pass  # as many copies as may be are in flight: at the next step
        except tiercel.Error as error:
            self._say("rank %d: a load failed: %s", self._geometry.rank, error)
            load.failed = True

    def _start(self, order: LoadOrder) -> None:
        """Of a load that a step will wait for, whose pages have just been given to its request: all that has used them is in
        the stream of the steps before. Where it cannot begin, it does with its step."""
        if self._thread != threading.get_ident() or self._shared is None or self._transfer is None:
            return
        started = self._started[order.in_step] = self._step_copies(order)
        try:
            self._submit(order, self._shared.loads[order.in_step], started, self._stream.event())
        except tiercel.Error as error:
            log.debug("TiercelConnector: rank %d: a load begins with its step: %s", self._geometry.rank, error)

    def _step_copies(self, order: LoadOrder) -> _StepCopies:
        assert self._transfer is not None
        return _StepCopies(self._layers.ranges(len(order.blocks) * self._transfer.part_bytes))

    def _submit(self, order: LoadOrder, load: tiercel.Load, to: _StepCopies, event: int) -> None:
        """The copies that are missing yet. LimitError: call it again."""
        assert self._transfer is not None
        pages = self._pages(order.blocks)
        for layers in to.ranges[len(to.copies):]:
            to.copies.append(self._transfer.load(load, pages, first=order.first, after_event=event, ahead=self._device is not None, layers=layers))

    def _load_in_step(self, load: _Load, event: int, stream: int, by_layers: bool) -> None:
        """Makes the step that is about to be submitted wait for this load. It cannot be short: its blocks are held here. What
        fails now is the device, and with it the engine."""
        order = load.order
        assert self._shared is not None and self._transfer is not None
        load.load = self._shared.loads.pop(order.in_step)
        load.usable = len(order.blocks)
        started = self._started.pop(order.in_step, None) or self._step_copies(order)
        load.copies = started.copies
        until = time.monotonic() + _COPY_S
        while True:
            try:
                self._submit(order, load.load, started, event)
                break
            except tiercel.LimitError:  # as many copies as may be are in flight
                if time.monotonic() > until:
                    raise
                time.sleep(0.0005)
        if by_layers and len(load.copies) > 1:
            self._layers.expect(load.copies)
            return
        for copy in load.copies:
            self._wait(copy, stream)

    def _wait(self, copy: tiercel.Copy, stream: int | None = None) -> None:
        """What is submitted to the stream (by default the one that is current) from now on comes behind this copy."""
        assert self._transfer is not None
        if self._device is not None:
            try:
                self._transfer.wait_in_stream(self._stream.follow() if stream is None else stream, copy)
                return
            except tiercel.Error as error:
                self._say("rank %d: the step waits on the CPU: %s", self._geometry.rank, error)
        if not copy.wait(_COPY_S) or copy.error is not None:
            raise RuntimeError(f"TiercelConnector: a step's load failed: {copy.error or f'it did not end within {_COPY_S:.0f} s'}")

    def _look_at_registration(self) -> None:
        """A step waits for loads only once the GPU reaches the arena: until then copies are slow."""
        if self._shared is None or self._transfer is None:
            return
        registered = self._transfer.registered_bytes
        if registered != self._registered:  # of another arena too, where a service came back without the old one
            self._registered, self._registered_at = registered, time.monotonic()
            self._shared.is_ready = False
        elif not self._shared.is_ready:
            self._shared.is_ready = self._device is None or (registered > 0 and time.monotonic() > self._registered_at + _SETTLED_S)

    def _has_ended(self, load: _Load) -> bool:
        usable = 0
        if load.copies:
            if not all(copy.done for copy in load.copies):
                return False
            error = next((copy.error for copy in load.copies if copy.error is not None), None)
            if error is None:
                usable = load.usable
                self.loaded_bytes += sum(copy.bytes for copy in load.copies)
            elif load.order.in_step:  # the step has read what was in its pages
                raise RuntimeError(f"TiercelConnector: the GPU failed under a step: {error}")
            else:
                self._say("rank %d: a load failed: %s", self._geometry.rank, error)
        elif not load.failed:
            return False
        bad = load.order.blocks[usable:]
        if bad:
            self.failed_loads += 1
            self._bad_blocks.update(bad)
        if load.load is not None:
            load.load.close()
        return True

    def _begin_store(self, store: _Store, event: int) -> None:
        order = store.order
        if self._session is None or self._transfer is None:
            self._fail_store(store, "it has no session")
            return
        try:
            if self._geometry.stores:
                store.copy = self._transfer.store(order.reservation_id, order.positions, self._pages(order.blocks), after_event=event)
            else:
                store.copy = _NOTHING_TO_COPY
        except tiercel.LimitError as error:
            if time.monotonic() > store.give_up_at:
                self._fail_store(store, str(error))
        except tiercel.Error as error:
            self._fail_store(store, str(error))

    def _fail_store(self, store: _Store, why: str) -> None:
        self._say("rank %d: a store was given up: %s", self._geometry.rank, why)
        store.copy = _FAILED

    def _end_store(self, store: _Store) -> None:
        order, copy = store.order, store.copy
        assert copy is not None and self._session is not None or copy is _FAILED
        error = copy.error
        if error is None and copy is not _FAILED:
            try:
                self._session.report(order.reservation_id, order.positions)
                self.stored_bytes += copy.bytes
                self._report.stored[order.store_id] = 1
                return
            except tiercel.Error as failed:
                error = failed
        if error is not None:
            self._say("rank %d: a store failed: %s", self._geometry.rank, error)
        self.failed_stores += 1
        self._report.failed[order.store_id] = 1


class _Ended:
    """A copy that was none."""

    done, error, bytes = True, None, 0


_NOTHING_TO_COPY = _Ended()
_FAILED = _Ended()
