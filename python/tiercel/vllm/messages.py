"""What the two sides of the connector tell each other: the worker's handshake, the scheduler's orders of a step, the
workers' answers. They travel between processes as pickles."""

from __future__ import annotations

from dataclasses import dataclass, field

import tiercel
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorHandshakeMetadata,
    KVConnectorMetadata,
    KVConnectorWorkerMetadata,
)

from .geometry import LayoutPlan, RankGeometry


@dataclass
class Handshake(KVConnectorHandshakeMetadata):
    geometry: RankGeometry
    has_stream: bool = False  # steps run on a stream, which can wait for a load by itself
    process: str = ""  # of shared.py


@dataclass(frozen=True)
class SessionPlan:
    """With what every member of the engine opens its session."""

    socket: str
    engine_id: str
    ranks: int
    name: str
    kv_dtype: str
    weights: tuple[bytes, ...]
    weights_epoch: int
    properties: tuple[tuple[str, str], ...]
    layout: LayoutPlan

    def open(self, client: tiercel.Client, member: int) -> tiercel.Session:
        model = tiercel.ModelIdentity(name=self.name, kv_dtype=self.kv_dtype, weights=list(self.weights),
                                      weights_epoch=self.weights_epoch, properties=dict(self.properties))
        group = tiercel.SessionGroup(engine_id=self.engine_id, members=1 + self.ranks, member=member)
        return client.open_session(model, self.layout.layout(), self.layout.block_tokens, group)


@dataclass(frozen=True)
class LoadOrder:
    """Blocks [first, first + len(blocks)) of a chain into these blocks of the engine's pool."""

    request_id: str
    hashes: bytes  # of the blocks before too: 32 bytes each
    first: int
    blocks: tuple[int, ...]
    in_step: int = 0  # a number: the request is in this step, whose compute waits for the load. 0: it joins a later one
    tenant: str = ""  # of the chain


@dataclass(frozen=True)
class StoreOrder:
    """These blocks of the engine's pool into blocks of a reservation, named by their positions in the chain."""

    store_id: int
    reservation_id: int
    positions: tuple[int, ...]
    blocks: tuple[int, ...]


@dataclass
class Orders(KVConnectorMetadata):
    plan: SessionPlan | None = None  # until every rank has opened its session
    loads: list[LoadOrder] = field(default_factory=list)
    stores: list[StoreOrder] = field(default_factory=list)
    step: int = 0  # a number that the answer to this step names; 0: none


@dataclass
class Report(KVConnectorWorkerMetadata):
    """Of one rank, or of several together."""

    opened: set[int] = field(default_factory=set)
    stored: dict[int, int] = field(default_factory=dict)  # store id: ranks that have reported their part
    failed: dict[int, int] = field(default_factory=dict)  # store id: ranks whose part failed
    loaded: set[int] = field(default_factory=set)  # LoadOrder.in_step of loads that have ended
    steps: set[int] = field(default_factory=set)  # Orders.step

    def aggregate(self, other: KVConnectorWorkerMetadata) -> Report:
        assert isinstance(other, Report)
        whole = Report(self.opened | other.opened, dict(self.stored), dict(self.failed), self.loaded | other.loaded,
                       self.steps | other.steps)
        for counts, more in ((whole.stored, other.stored), (whole.failed, other.failed)):
            for number, ranks in more.items():
                counts[number] = counts.get(number, 0) + ranks
        return whole

    def __bool__(self) -> bool:
        return bool(self.opened or self.stored or self.failed or self.loaded or self.steps)
