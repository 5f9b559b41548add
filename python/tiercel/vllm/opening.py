"""Opening: how an engine comes to its sessions.

The scheduler's side digests the weights, connects (starting a private service where none is configured) and opens its own
session, all on a thread of its own, and tries again while there is no service. Then its orders carry the plan until every
rank has opened a session by it. Until then there are neither hits nor stores: requests are computed.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import tiercel

from . import engine, shared
from .geometry import LayoutPlan
from .keys import digest_directory
from .messages import SessionPlan
from .settings import Settings
from .tenants import Tenants

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_RETRY_S = 5.0
_RANKS_S = 10.0  # for ranks to open their sessions, before requests stop waiting for them
CALL_DEADLINE_S = 0.1  # for an answer of the service, on the engine's thread; without one nothing is there

log = logging.getLogger("tiercel")


def read_weights(config: VllmConfig, settings: Settings) -> Callable[[], tuple[tuple[bytes, ...], int]]:
    """What names the weights: a function that gives their digests and epoch, and may take long. ValueError at once if
    there is nothing to digest."""
    model = config.model_config
    if settings.weights_id:
        name = settings.weights_id.encode()
        return lambda: ((_digest_of(name),), 0)
    if config.load_config.load_format == "dummy":
        epoch = secrets.randbits(63) | 1
        return lambda: ((), epoch)
    folder = engine.model_folder(config)
    files = engine.weight_files(folder) if folder is not None else []
    if not files:
        raise ValueError(f"kv_connector_extra_config.weights_id: is needed, because {model.model!r} has no weight files on this machine "
                         "that could be digested; give a text that names exactly these weights")
    return lambda: (tuple(tiercel.file_digest(str(file), digest_directory()) for file in files), 0)


def _digest_of(name: bytes) -> bytes:
    return hashlib.sha256(b"weights_id:" + name).digest()


class Opening:
    """Belongs to the scheduler's thread, but for what its own thread leaves in `_outcome`."""

    def __init__(self, config: VllmConfig, settings: Settings, layout: LayoutPlan, *, shares: bool = False) -> None:
        """shares: the only rank is in this process and may use the scheduler's client."""
        self._config, self._settings, self._layout, self._shares = config, settings, layout, shares
        self._weights = read_weights(config, settings)
        self._outcome: tuple[tiercel.Client, tiercel.Session, SessionPlan] | None = None
        self._tenants: Tenants | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tiercel-opening", daemon=True)
        self._ranks_missing = set(range(config.parallel_config.tensor_parallel_size))
        self._planned_at = 0.0
        self._thread.start()

    @property
    def session(self) -> tiercel.Session | None:
        """Once every rank has opened its own."""
        return self._outcome[1] if self._outcome and not self._ranks_missing else None

    def tenant_of(self, salt: str | None) -> str:
        """The tenant that a cache_salt names; empty: none."""
        return self._tenants.of(salt) if self._tenants is not None else ""

    @property
    def shared(self) -> shared.Shared | None:
        """With the worker, if it is in this process."""
        return shared.find(self._outcome[2].engine_id) if self._shares and self._outcome else None

    @property
    def plan(self) -> SessionPlan | None:
        """For the ranks, until all have opened."""
        if self._outcome is None or not self._ranks_missing:
            return None
        self._planned_at = self._planned_at or time.monotonic()
        return self._outcome[2]

    @property
    def is_near(self) -> bool:
        """The ranks are being asked, so that a request may wait for it; false for ever when they do not answer in time."""
        return self.plan is not None and time.monotonic() < self._planned_at + _RANKS_S

    def wait(self, seconds: float) -> None:
        """For the thread, at most so long."""
        self._thread.join(seconds)

    def opened(self, ranks: set[int]) -> None:
        if not ranks or not self._ranks_missing:
            return
        self._ranks_missing -= ranks
        if not self._ranks_missing and self._outcome:
            client, session, plan = self._outcome
            log.info("TiercelConnector: %d ranks and the scheduler have their sessions at %s; %s a block, namespace %s", plan.ranks, client.socket,
                     tiercel.format_bytes(session.block_bytes), session.space().fingerprint.hex()[:16])

    def close(self) -> None:
        self._closed.set()
        self._thread.join(10)
        if self._outcome is not None:
            if self._shares:
                shared.withdraw(self._outcome[2].engine_id)
            self._outcome[1].close()
            self._outcome[0].close()

    def _run(self) -> None:
        said = ""
        try:
            start = time.monotonic()
            weights, epoch = self._weights()
            log.info("TiercelConnector: the weights are known (%d files, %.1f s)", len(weights), time.monotonic() - start)
        except tiercel.Error as error:
            log.error("TiercelConnector: no KV is kept, because the weights cannot be digested: %s", error)
            return
        while not self._closed.is_set():
            try:
                self._outcome = self._open(weights, epoch)
                return
            except tiercel.Error as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("TiercelConnector: no KV is kept yet, tried again every %.0f s: %s", _RETRY_S, said)
            self._closed.wait(_RETRY_S)

    def _open(self, weights: tuple[bytes, ...], epoch: int) -> tuple[tiercel.Client, tiercel.Session, SessionPlan]:
        settings, config = self._settings, self._config
        start = settings.start_options() if settings.starts_service else False
        client = tiercel.Client.connect(settings.socket, start=start, call_deadline_s=CALL_DEADLINE_S)
        layout = self._layout
        plan = SessionPlan(socket=client.socket, engine_id=str(config.kv_transfer_config.engine_id),
                           ranks=config.parallel_config.tensor_parallel_size, name=str(config.model_config.model),
                           kv_dtype=engine.kv_dtype(config), weights=weights, weights_epoch=epoch,
                           properties=tuple(sorted(engine.properties(config, layout.packing, layout.page_tokens).items())),
                           layout=layout)
        try:
            session = plan.open(client, member=0)
            self._tenants = Tenants(client.socket)
            if self._shares:
                shared.offer(plan.engine_id, client)
            return client, session, plan
        except BaseException:
            client.close()
            raise
