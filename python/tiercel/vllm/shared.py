"""What the two sides of a connector share where they live in one process: the client, and loads that steps wait for.

With one client both see one mapping of the arena, so the worker copies the very blocks that the scheduler's side holds. A step
that waits for such a load cannot find that less has come than was promised, which vLLM could not undo: by then its blocks
are in the engine's prefix cache, and further steps may be under way. It need not wait for the step to be made ready either:
the scheduler's side hands it over as soon as its pages are known."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import tiercel

if TYPE_CHECKING:
    from .messages import LoadOrder

_TOKEN = secrets.token_hex(8)


@dataclass
class Shared:
    client: tiercel.Client
    loads: dict[int, tiercel.Load] = field(default_factory=dict)  # by LoadOrder.in_step, from promise to copy
    is_ready: bool = False  # the worker copies at full speed
    start: Callable[[LoadOrder], None] | None = None  # of the worker: begins a load before its step's orders come


_engines: dict[str, Shared] = {}


def process() -> str:
    """Names this process: two sides with the same name can share."""
    return f"{os.getpid()}-{_TOKEN}"


def offer(engine_id: str, client: tiercel.Client) -> Shared:
    return _engines.setdefault(engine_id, Shared(client))


def find(engine_id: str) -> Shared | None:
    return _engines.get(engine_id)


def withdraw(engine_id: str) -> None:
    _engines.pop(engine_id, None)
