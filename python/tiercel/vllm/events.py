"""What was stored, as vLLM's KV events, for routers that send a request where its KV is: by vLLM's own hashes, which name nothing
else here.

The service tells nobody what it evicts, so there are no events of removal; vLLM says itself when all is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vllm.distributed.kv_events import MEDIUM_CPU, BlockStored
from vllm.v1.core import kv_cache_utils

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vllm.v1.request import Request


def _as_published(keys: list[tuple[Any, ...] | None]) -> Any:
    published = getattr(kv_cache_utils, "to_event_extra_keys", None)  # vLLM 0.32
    return published(keys) if published is not None else keys


class Events:
    """Belongs to the scheduler's thread."""

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._events: list[BlockStored] = []

    def stored(self, request: Request, positions: Sequence[int]) -> None:
        """These blocks of the request have been published."""
        hashes = request.block_hashes
        known = [place for place in positions if place < len(hashes)]  # none where the engine has no prefix cache
        start = 0
        for end in range(1, len(known) + 1):
            if end == len(known) or known[end] != known[end - 1] + 1:
                self._add(request, known[start], known[end - 1] + 1)
                start = end

    def take(self) -> list[BlockStored]:
        events, self._events = self._events, []
        return events

    def _add(self, request: Request, first: int, end: int) -> None:
        size, lora = self._block_tokens, request.lora_request
        hashes = [kv_cache_utils.maybe_convert_block_hash(request.block_hashes[place]) for place in range(max(first - 1, 0), end)]
        parent = hashes.pop(0) if first else None
        keys = [kv_cache_utils.generate_block_hash_extra_keys(request, place * size, (place + 1) * size, 0)[0] for place in range(first, end)]
        self._events.append(BlockStored(
            block_hashes=hashes, parent_block_hash=parent, token_ids=request.all_token_ids[first * size : end * size], block_size=size,
            lora_id=lora.adapter_id if lora else None, lora_name=lora.name if lora else None, medium=MEDIUM_CPU, extra_keys=_as_published(keys),
            group_idx=0))
