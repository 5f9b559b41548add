"""How the KV of a rank lies in its tensors, and the layout of blocks that follows for the whole engine.

Each rank describes its registered tensors (RankGeometry); the scheduler's side checks that the ranks agree and derives
the LayoutPlan; both sides make their tiercel.Layout of it. Everything is read from tensor, KV cache spec and attention
backend: shape and strides say where, never a version. A block of Tiercel is one block of vLLM's KV cache manager; it has
several pages where the attention kernel's blocks are smaller. Plain values that travel between processes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import tiercel
from tiercel import Axis


class UnsupportedLayoutError(ValueError):
    """KV that this connector does not understand; the sentence names what and what would be right."""


@dataclass(frozen=True)
class TensorGeometry:
    """One layer's KV tensor. Axes: (name of tiercel.Axis, size, stride in bytes)."""

    name: str
    layer: int
    address: int
    storage_bytes: int  # of the allocation, from `address` on
    axes: tuple[tuple[str, int, int], ...]

    def size(self, axis: str) -> int:
        return next((size for name, size, _ in self.axes if name == axis), 1)

    def has(self, axis: str) -> bool:
        return any(name == axis for name, _, _ in self.axes)


@dataclass(frozen=True)
class RankGeometry:
    """What one rank registered."""

    rank: int  # 0 to ranks - 1
    ranks: int
    total_heads: int  # KV heads of a layer over all ranks, each counted once
    block_tokens: int
    packing: str  # of the bytes of one head: attention backend and its variant
    tensors: tuple[TensorGeometry, ...]

    @property
    def first_head(self) -> int:
        return self.rank * self.total_heads // self.ranks

    @property
    def stores(self) -> bool:
        """Of the ranks that hold the same heads, the lowest one stores them."""
        return self.ranks <= self.total_heads or self.rank % (self.ranks // self.total_heads) == 0

    @property
    def page_tokens(self) -> int:
        return self.tensors[0].size("TOKEN")


@dataclass(frozen=True)
class LayoutPlan:
    """The run table of a block, as plain values."""

    block_tokens: int
    page_tokens: int
    packing: str
    runs: tuple[tuple[int, str, int, int], ...]  # layer, name of tiercel.StateKind, heads, bytes of one head and token

    def layout(self) -> tiercel.Layout:
        runs = [tiercel.Run(layer=layer, kind=tiercel.StateKind[kind], heads=heads, bytes_per_head_token=size)
                for layer, kind, heads, size in self.runs]
        return tiercel.Layout([tiercel.Group(runs)])

    def describe(self) -> str:
        layers = len({run[0] for run in self.runs})
        _, kind, heads, size = self.runs[0]
        return (f"{layers} layers, {heads} KV heads, {size} bytes a head and token ({kind.lower()}), blocks of "
                f"{self.block_tokens} tokens in pages of {self.page_tokens}, packing {self.packing}")


def find_axes(shape_of: Callable[[int, int, int, int], Sequence[int]], shape: Sequence[int], blocks: int, tokens: int, heads: int,
              head_size: int) -> dict[int, str]:
    """Which dimension of a tensor is which axis. shape_of(blocks, tokens, heads, head_size) is the attention backend's
    own rule; one argument at a time is doubled, and the dimension that follows is its axis."""
    numbers = {"PAGE": blocks, "TOKEN": tokens, "HEAD": heads, "INNER": head_size}
    base = tuple(shape_of(*numbers.values()))
    if len(base) != len(shape):
        raise UnsupportedLayoutError(f"a KV tensor has shape {tuple(shape)}, and its attention backend says {base}")
    axes: dict[int, str] = {}
    for axis in numbers:
        doubled = tuple(shape_of(*(2 * n if name == axis else n for name, n in numbers.items())))
        moved = [i for i, (a, b) in enumerate(zip(base, doubled)) if a != b]
        if len(moved) != 1 or moved[0] in axes:
            raise UnsupportedLayoutError(f"a KV tensor of shape {tuple(shape)}: dimensions {moved} follow the {axis} axis; it must be one of its own")
        axes[moved[0]] = axis
    for i, size in enumerate(shape):
        if i not in axes and size != 1:
            if size != 2 or "KV" in axes.values():
                raise UnsupportedLayoutError(f"a KV tensor of shape {tuple(shape)}: dimension {i} is none of page, token, head, K/V and bytes")
            axes[i] = "KV"
    return axes


def logical_axes(shape: Sequence[int], heads: int) -> dict[int, str]:
    """Of engines whose tensors have one order of dimensions whatever their memory has, which the strides tell: pages, heads,
    tokens, and the bytes of one head and token, K and V together."""
    if len(shape) != 4 or shape[1] != heads:
        raise UnsupportedLayoutError(f"a KV tensor has shape {tuple(shape)}; it must be pages, {heads} heads, tokens and bytes of a head and token")
    return {0: "PAGE", 1: "HEAD", 2: "TOKEN", 3: "INNER"}


def tensor_geometry(name: str, axes: Mapping[int, str], shape: Sequence[int], strides: Sequence[int], item_bytes: int, address: int,
                    storage_bytes: int) -> TensorGeometry:
    """Strides in elements, as a tensor has them."""
    described = []
    for i, axis in sorted(axes.items()):
        if axis == "INNER":
            if strides[i] != 1:
                raise UnsupportedLayoutError(f"{name}: the bytes of one head and token are {strides[i]} elements apart; they must be adjacent")
            described.append((axis, shape[i] * item_bytes, 1))
        else:
            described.append((axis, shape[i], strides[i] * item_bytes))
    return TensorGeometry(name, layer_number(name), address, storage_bytes, tuple(described))


def layer_number(name: str) -> int:
    """The layer of "model.layers.17.self_attn.attn"."""
    numbers = re.findall(r"(?:^|\.)(\d+)(?=\.|$)", name)
    if len(numbers) != 1:
        raise UnsupportedLayoutError(f"{name}: the name of a KV tensor must have the number of its layer, and no other number")
    return int(numbers[0])


def plan_layout(ranks: Sequence[RankGeometry]) -> LayoutPlan:
    """The layout of all ranks together. UnsupportedLayoutError: one is missing, or they do not agree."""
    count = ranks[0].ranks if ranks else 0
    numbers = sorted(rank.rank for rank in ranks)
    if numbers != list(range(count)):
        raise UnsupportedLayoutError(f"the KV of ranks {numbers} is described, of {count}")
    plans = {}
    for rank in ranks:
        plan = _plan_of(rank)
        plans.setdefault(plan, []).append(rank.rank)
    if len(plans) != 1:
        texts = "; ".join(f"ranks {of}: {plan.describe()}" for plan, of in plans.items())
        raise UnsupportedLayoutError(f"the ranks have different KV: {texts}")
    return next(iter(plans))


def _plan_of(rank: RankGeometry) -> LayoutPlan:
    expected = max(1, rank.total_heads // rank.ranks)
    if rank.total_heads % rank.ranks and rank.ranks % rank.total_heads:
        raise UnsupportedLayoutError(f"{rank.total_heads} KV heads do not divide into {rank.ranks} ranks")
    runs = []
    for tensor in sorted(rank.tensors, key=lambda tensor: tensor.layer):
        if tensor.size("HEAD") != expected:
            raise UnsupportedLayoutError(f"{tensor.name}: rank {rank.rank} has {tensor.size('HEAD')} KV heads; it must be {expected}, {rank.total_heads} "
                                         f"heads over {rank.ranks} ranks")
        if tensor.size("TOKEN") != rank.page_tokens or rank.block_tokens % rank.page_tokens:
            raise UnsupportedLayoutError(f"{tensor.name}: pages of {tensor.size('TOKEN')} tokens; all must have the same number, a part of {rank.block_tokens}")
        kinds = ("KEY", "VALUE") if tensor.has("KV") else ("KEY_VALUE",)
        runs += [(tensor.layer, kind, rank.total_heads, tensor.size("INNER")) for kind in kinds]
    if len({(layer, kind) for layer, kind, _, _ in runs}) != len(runs):
        raise UnsupportedLayoutError(f"rank {rank.rank}: two KV tensors have the number of one layer")
    return LayoutPlan(rank.block_tokens, rank.page_tokens, rank.packing, tuple(runs))


def engine_tensors(rank: RankGeometry) -> list[tiercel.EngineTensor]:
    return [tiercel.EngineTensor(name=tensor.name, address=tensor.address, storage_bytes=tensor.storage_bytes,
                                 axes=[(Axis[name], size, stride) for name, size, stride in tensor.axes], first_layer=tensor.layer,
                                 first_head=rank.first_head)
            for tensor in rank.tensors]


def pages_of(blocks: Sequence[int], pages_per_block: int) -> list[int]:
    """Ids of the kernel's pages of manager blocks."""
    if pages_per_block == 1:
        return list(blocks)
    return [block * pages_per_block + i for block in blocks for i in range(pages_per_block)]
