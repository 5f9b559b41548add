"""TiercelConnector: vLLM's connector interface, handed on to the scheduler's side or the worker's side.

vLLM builds it twice, once in the scheduler and once in each worker. What vLLM's interface asks of it and this file does not
define, the base class answers; nothing here calls up to it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import tiercel
import vllm
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, KVConnectorRole, SupportsHMA

from . import engine, shared, stats
from .events import Events
from .geometry import RankGeometry, UnsupportedLayoutError, plan_layout
from .layers import calls_hooks
from .messages import Handshake, Orders, Report
from .opening import Opening, read_weights
from .scheduler import Scheduler
from .settings import read_settings
from .worker import Worker

if TYPE_CHECKING:
    import torch
    from vllm.config import VllmConfig
    from vllm.distributed.kv_events import KVCacheEvent
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.sched.output import SchedulerOutput
    from vllm.v1.kv_cache_interface import KVCacheConfig
    from vllm.v1.outputs import KVConnectorOutput
    from vllm.v1.request import Request

_OPENING_S = 5.0  # the engine's start waits so long for the weights' digests and the service

log = logging.getLogger("tiercel")
if not log.handlers:  # a program's own logging goes first; without one, vLLM's form
    log.parent = logging.getLogger("vllm")


class TiercelConnector(KVConnectorBase_V1, SupportsHMA):
    def __init__(self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        transfer = vllm_config.kv_transfer_config
        self._config, self._kv_cache = vllm_config, kv_cache_config
        self._settings = read_settings(transfer.kv_connector_extra_config or {})
        engine.check_supported(vllm_config, kv_cache_config)
        self._block_tokens = kv_cache_config.kv_cache_groups[0].kv_cache_spec.block_size
        self._worker: Worker | None = None
        self._geometry: RankGeometry | None = None
        self._scheduler: Scheduler | None = None
        self._counters = stats.Counters()
        if role == KVConnectorRole.SCHEDULER:
            read_weights(vllm_config, self._settings)  # refuses what has no name, before anything starts
            transfer.kv_load_failure_policy = "recompute"  # read by the scheduler after this
            self._scheduler = Scheduler(self._settings, self._block_tokens, vllm_config.parallel_config.tensor_parallel_size,
                                        loads=transfer.is_kv_consumer, stores=transfer.is_kv_producer,
                                        step_tokens=vllm_config.scheduler_config.max_num_batched_tokens, events=self._events())

    @property
    def requires_kv_delivery(self) -> bool:
        return False  # a block that is not stored is a miss, no more

    def _events(self) -> Events | None:
        wanted = getattr(self._config, "kv_events_config", None)
        return Events(self._block_tokens) if wanted is not None and wanted.enable_kv_cache_events else None

    # Worker.

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        from vllm.distributed import get_tensor_model_parallel_rank

        self._geometry = engine.rank_geometry(self._config, self._kv_cache, kv_caches, get_tensor_model_parallel_rank())
        device = next(iter(kv_caches.values())).device
        if device.type not in ("cpu", "cuda"):
            raise UnsupportedLayoutError(f"the KV cache is on a device of type {device.type!r}; it must be on cpu or cuda")
        self._tensors = kv_caches  # their memory is copied from and to
        self._worker = Worker(self._geometry, device.index if device.type == "cuda" else None,
                              _CudaStream(device) if device.type == "cuda" else _NoStream())
        self._has_stream = device.type == "cuda"
        if self._has_stream:
            _calibrate(device.index)

    def get_handshake_metadata(self) -> Handshake | None:
        return Handshake(self._geometry, self._has_stream, shared.process()) if self._geometry is not None else None

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        orders = self._connector_metadata
        if self._worker is not None and isinstance(orders, Orders):
            self._worker.begin_step(orders, by_layers=calls_hooks(forward_context))

    def wait_for_layer_load(self, layer_name: str) -> None:
        if self._worker is not None:
            self._worker.before_layer(layer_name)

    def save_kv_layer(self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any) -> None:
        """Nothing: whole blocks are stored with the next step."""

    def wait_for_save(self) -> None:
        """Not for stores: the scheduler's side holds the blocks."""
        if self._worker is not None:
            self._worker.after_layers()

    def get_finished(self, finished_req_ids: set[str]) -> tuple[set[str] | None, set[str] | None]:
        received = self._worker.end_step() if self._worker is not None else None
        return None, received or None

    def get_block_ids_with_load_errors(self) -> set[int]:
        return self._worker.take_bad_blocks() if self._worker is not None else set()

    def build_connector_worker_meta(self) -> Report | None:
        return self._worker.take_report() if self._worker is not None else None

    # Scheduler.

    def set_xfer_handshake_metadata(self, metadata: dict[int, Any]) -> None:
        self._begin(metadata.values())

    def set_xfer_handshake_metadata_pp_aware(self, metadata: dict[tuple[int, int], Any]) -> None:
        self._begin(metadata.values())

    def _begin(self, handshakes: Iterable[Any]) -> None:
        assert self._scheduler is not None
        given = list(handshakes)
        strangers = {type(handshake).__name__ for handshake in given if not isinstance(handshake, Handshake)}
        if strangers:  # MultiConnector hands the first child's to all
            raise ValueError(f"the workers' handshake is of another connector ({', '.join(strangers)}); beside one that has its own, "
                             "TiercelConnector must be the first child of MultiConnector")
        layout = plan_layout([handshake.geometry for handshake in given])
        waits = self._settings.load_mode == "step" or (self._settings.load_mode == "auto" and all(handshake.has_stream for handshake in given))
        opening = Opening(self._config, self._settings, layout, shares=waits and [handshake.process for handshake in given] == [shared.process()])
        opening.wait(_OPENING_S)
        self._scheduler.begin(opening)
        settings = self._settings
        service = "a private service" if settings.starts_service else f"the service at {settings.socket or tiercel.default_socket_path()}"
        log.info("TiercelConnector %s on vLLM %s: %s; role %s, %s, at most %d blocks held by stores; not kept: images, audio, prompt "
                 "embeddings", tiercel.__version__, vllm.__version__, layout.describe(), self._config.kv_transfer_config.kv_role, service,
                 self._scheduler.stores.running_limit)

    def bind_gpu_block_pool(self, gpu_block_pool: BlockPool) -> None:
        if self._scheduler is not None:
            self._scheduler.bind_pool(gpu_block_pool)

    def on_new_request(self, request: Request) -> None:
        assert self._scheduler is not None
        self._scheduler.add(request)

    def get_num_new_matched_tokens(self, request: Request, num_computed_tokens: int) -> tuple[int | None, bool]:
        assert self._scheduler is not None
        return self._scheduler.matched(request, num_computed_tokens)

    def update_state_after_alloc(self, request: Request, blocks: Any, num_external_tokens: int) -> None:
        assert self._scheduler is not None
        self._scheduler.allocated(request, blocks, num_external_tokens)

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> Orders:
        assert self._scheduler is not None
        return self._scheduler.orders(scheduler_output)

    def update_connector_output(self, connector_output: KVConnectorOutput) -> None:
        assert self._scheduler is not None
        report = connector_output.kv_connector_worker_meta
        self._scheduler.answered(connector_output.finished_recving or (), connector_output.invalid_block_ids,
                                 report if isinstance(report, Report) else None)

    def request_finished(self, request: Request, block_ids: list[int]) -> tuple[bool, dict[str, Any] | None]:
        assert self._scheduler is not None
        self._scheduler.finished(request)
        return False, None

    def request_finished_all_groups(self, request: Request, block_ids: tuple[list[int], ...]) -> tuple[bool, dict[str, Any] | None]:
        return self.request_finished(request, block_ids[0])

    def has_pending_push_work(self) -> bool:
        return self._scheduler is not None and self._scheduler.has_work

    def reset_cache(self) -> bool:
        assert self._scheduler is not None
        self._scheduler.reset()
        return True

    def take_events(self) -> Iterable[KVCacheEvent]:
        events = self._scheduler.stores.events if self._scheduler is not None else None
        return events.take() if events is not None else ()

    # Both.

    def get_kv_connector_stats(self) -> stats.TiercelStats | None:
        return self._counters.since_last(self._scheduler, self._worker)

    def shutdown(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None
        if self._scheduler is not None:
            self._scheduler.close()

    @classmethod
    def get_required_kvcache_layout(cls, vllm_config: VllmConfig) -> str:
        return read_settings(vllm_config.kv_transfer_config.kv_connector_extra_config or {}).layout

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> stats.TiercelStats:
        return stats.TiercelStats(data=data) if data is not None else stats.TiercelStats()

    @classmethod
    def build_prom_metrics(cls, vllm_config: VllmConfig, metric_types: dict[Any, Any], labelnames: list[str],
                           per_engine_labelvalues: dict[int, list[object]]) -> stats.TiercelPromMetrics:
        return stats.TiercelPromMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)


def _calibrate(device: int) -> None:
    """Now, before graphs are captured: the copies themselves begin beside the first steps."""
    try:
        log.debug("TiercelConnector: what copies cost on device %d:\n%s", device, tiercel.calibrate_gpu(device))
    except Exception as error:  # copies are right without it
        log.warning("TiercelConnector: device %d is not calibrated: %s", device, error)


class _NoStream:
    def follow(self) -> int:
        return 0

    def event(self) -> int:
        return 0


class _CudaStream:
    def __init__(self, device: torch.device) -> None:
        import torch

        self._current = lambda: torch.cuda.current_stream(device)
        self._stream = self._current()
        self._event = torch.cuda.Event()

    def follow(self) -> int:
        self._stream = self._current()
        return int(self._stream.cuda_stream)

    def event(self) -> int:
        self._event.record(self._stream)
        return int(self._event.cuda_event)
