"""What the connector counts, for vLLM's log and its Prometheus metrics. A counter moves after the thing has happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats

if TYPE_CHECKING:
    from vllm.config import VllmConfig

    from .scheduler import Scheduler
    from .worker import Worker

NAMES = {
    "asked_tokens": "Tokens of prompts that were looked for beyond the engine's own cache",
    "hit_tokens": "Tokens whose KV was promised by the cache",
    "loads": "Loads begun, one for each request whose KV was promised",
    "step_loads": "Of these, loads that a step itself waited for",
    "left_blocks": "Blocks left on disk because computing them was faster",
    "failed_loads": "Loads that did not bring all that was promised, so that it was computed",
    "stored_blocks": "Blocks published",
    "refused_blocks": "Blocks not stored because the cache had no room for long, or not the block before",
    "lost_blocks": "Blocks not stored because the engine took their memory first",
    "failed_blocks": "Blocks whose store failed",
    "loaded_bytes": "Bytes copied into the engine's KV cache, all ranks together",
    "stored_bytes": "Bytes copied out of the engine's KV cache, all ranks together",
}


@dataclass
class TiercelStats(KVConnectorStats):
    data: dict[str, Any] = field(default_factory=dict)

    def reset(self) -> None:
        self.data = {}

    def aggregate(self, other: KVConnectorStats) -> TiercelStats:
        for name, value in other.data.items():
            self.data[name] = self.data.get(name, 0) + value
        return self

    def reduce(self) -> dict[str, int | float]:
        return {name: self.data[name] for name in NAMES if name in self.data}

    def is_empty(self) -> bool:
        return not any(self.data.values())


class Counters:
    """What has been added since it was asked last."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def since_last(self, scheduler: Scheduler | None, worker: Worker | None) -> TiercelStats | None:
        now: dict[str, int] = {}
        if scheduler is not None:
            stores = scheduler.stores
            now |= {"asked_tokens": scheduler.asked_tokens, "hit_tokens": scheduler.hit_tokens, "loads": scheduler.loads,
                    "step_loads": scheduler.step_loads, "left_blocks": scheduler.lookups.left_blocks,
                    "failed_loads": scheduler.failed_loads, "stored_blocks": stores.stored_blocks,
                    "refused_blocks": stores.refused_blocks, "lost_blocks": stores.lost_blocks, "failed_blocks": stores.failed_blocks}
        if worker is not None:
            now |= {"loaded_bytes": worker.loaded_bytes, "stored_bytes": worker.stored_bytes}
        added = {name: value - self._last.get(name, 0) for name, value in now.items() if value != self._last.get(name, 0)}
        self._last = now
        return TiercelStats(data=added) if added else None


class TiercelPromMetrics(KVConnectorPromMetrics):
    def __init__(self, vllm_config: VllmConfig, metric_types: dict[Any, Any], labelnames: list[str],
                 per_engine_labelvalues: dict[int, list[object]]) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._counters = {}
        for name, text in NAMES.items():
            counter = metric_types[Counter](name=f"vllm:tiercel_{name}", documentation=text, labelnames=labelnames)
            self._counters[name] = {engine: counter.labels(*values) for engine, values in per_engine_labelvalues.items()}

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        for name, value in transfer_stats_data.items():
            if name in self._counters:
                self._counters[name][engine_idx].inc(value)
