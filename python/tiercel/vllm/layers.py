"""Layer by layer: a step that waits for a load need not wait for all of it before its first layer.

The load is several copies, each of a few layers, in order; the engine's hook before a layer makes the stream wait for the copy
that brings it. The engine skips its hooks where it replays a full CUDA graph, and nothing says so beforehand but the step's
forward context: so they are relied on only in steps that are not, and only once a step has been seen to call them for every
layer. A hook that does not come in spite of that ends the engine: a layer has read what was not there yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tiercel

_GROUPS = 6
_LEAST_BYTES = 64 << 20  # of a load; a smaller one is over before it pays

LayerRange = tuple[int, int]  # first, end


def groups_of(layers: Mapping[str, int]) -> list[LayerRange]:
    """At most _GROUPS ranges that hold the numbers of all layers, in order, alike in size."""
    numbers = sorted(set(layers.values()))
    size = max(1, -(-len(numbers) // _GROUPS))
    return [(numbers[i], numbers[min(i + size, len(numbers)) - 1] + 1) for i in range(0, len(numbers), size)]


def calls_hooks(forward_context: Any) -> bool:
    """Whether a step's layers run one by one, and ask before each."""
    mode = getattr(getattr(forward_context, "cudagraph_runtime_mode", None), "name", "")
    return isinstance(getattr(forward_context, "attn_metadata", None), dict) and mode in ("NONE", "PIECEWISE")


class LayerWaits:
    """Of one rank: `layers` are the numbers of its layers by name. One thread."""

    def __init__(self, layers: Mapping[str, int]) -> None:
        self._groups = groups_of(layers)
        self._of = {name: next(i for i, (first, end) in enumerate(self._groups) if first <= number < end) for name, number in layers.items()}
        self._seen: set[str] = set()
        self._is_trusted = False
        self._pending: dict[int, list[tiercel.Copy]] = {}  # by group, what its first layer waits for
        self._expects = False  # in this step

    def ranges(self, load_bytes: int) -> list[LayerRange | None]:
        """The copies that a load of so many bytes is made of; None: all layers."""
        return list(self._groups) if self._is_trusted and len(self._groups) > 1 and load_bytes >= _LEAST_BYTES else [None]

    def expect(self, copies: list[tiercel.Copy]) -> None:
        """`copies`: one for each of ranges(), where those were several."""
        self._expects = True
        for group, copy in enumerate(copies):
            self._pending.setdefault(group, []).append(copy)

    def before(self, name: str, wait: Callable[[tiercel.Copy], None]) -> None:
        """A layer is about to run."""
        if self._is_trusted and not self._expects:
            return
        self._seen.add(name)
        for copy in self._pending.pop(self._of.get(name, -1), ()):
            wait(copy)

    def after_step(self) -> None:
        """All layers of the step have been submitted."""
        if self._is_trusted and not self._expects:
            return
        seen, self._seen = self._seen, set()
        missing = self._of.keys() - seen
        if self._expects and missing:
            self._expects = False
            self._pending.clear()
            raise RuntimeError(f"TiercelConnector: the engine ran {len(missing)} layers without asking for their KV ({min(missing)}); "
                               'set load_mode to "async"')
        self._expects = False
        self._is_trusted = self._is_trusted or not missing
