"""The keys of kv_connector_extra_config, checked: an unknown key or a wrong value is refused by name, at the start."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import tiercel


@dataclass(frozen=True)
class Settings:
    socket: str = ""
    """Path of a service that runs already. Empty: $TIERCEL_SOCKET, else a private service is started."""
    program: str = ""
    """Of a private service: the program `tiercel`. Empty: the one of this package."""
    config: str = ""
    """Of a private service: its configuration file."""
    host_bytes: str = ""
    """Of a private service: the size of its host arena, such as "8GiB"."""
    arguments: tuple[str, ...] = ()
    """Of a private service: further flags of `tiercel serve`."""
    weights_id: str = ""
    """Names the weights where they are not files of the model's folder: what has the same name shares KV."""
    load_deadline_s: float = 2.0
    """How long a request may wait for its blocks to come from disk, in seconds; then it gets what is ready."""

    load_mode: str = "auto"
    """"auto": where nothing else is running, the step itself waits for its loads, on the GPU; else, and with "async", a
    request joins a step when its blocks are there. "step": as "auto", and on a CPU too, where the thread waits."""

    layout: str = "HND"
    """How the engine's own KV is to lie, where a backend has a choice: "HND", a rank's heads of a block are one range, or "NHD".
    Blocks are the same."""

    @property
    def starts_service(self) -> bool:
        return not self.socket and not os.environ.get("TIERCEL_SOCKET")

    def start_options(self) -> tiercel.StartOptions:
        arguments = list(self.arguments)
        if self.host_bytes:
            arguments += ["--host-capacity", self.host_bytes]
        return tiercel.StartOptions(program=self.program, config=self.config, arguments=arguments)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"kv_connector_extra_config.{key}: {value!r} must be a string")
    return value


def _path(key: str, value: Any) -> str:
    if not os.path.isabs(_text(key, value)):
        raise ValueError(f"kv_connector_extra_config.{key}: {value!r} must be an absolute path")
    return value


def _bytes(key: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return str(value)
    try:
        tiercel.parse_bytes(_text(key, value))
    except tiercel.InvalidArgumentError as error:
        raise ValueError(f"kv_connector_extra_config.{key}: {error}") from error
    return value


def _words(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"kv_connector_extra_config.{key}: {value!r} must be a list of strings")
    return tuple(value)


def _seconds(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.001 <= value <= 300:
        raise ValueError(f"kv_connector_extra_config.{key}: {value!r} must be seconds, 0.001 to 300")
    return float(value)


def _load_mode(key: str, value: Any) -> str:
    if value not in ("auto", "async", "step"):
        raise ValueError(f'kv_connector_extra_config.{key}: {value!r} must be "auto", "async" or "step"')
    return value


def _layout(key: str, value: Any) -> str:
    if value not in ("HND", "NHD"):
        raise ValueError(f'kv_connector_extra_config.{key}: {value!r} must be "HND" or "NHD"')
    return value


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "socket": _path, "program": _path, "config": _path, "host_bytes": _bytes, "arguments": _words, "weights_id": _text,
    "load_deadline_s": _seconds, "load_mode": _load_mode, "layout": _layout,
}
_OF_A_PRIVATE_SERVICE = ("program", "config", "host_bytes", "arguments")


def read_settings(extra_config: Mapping[str, Any]) -> Settings:
    """ValueError names the key, the value and what would be right."""
    for key in extra_config:
        if key not in _READERS:
            near = difflib.get_close_matches(str(key), _READERS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(f.name for f in fields(Settings))}"
            raise ValueError(f"kv_connector_extra_config.{key}: unknown key; {hint}")
    settings = Settings(**{key: _READERS[key](key, value) for key, value in extra_config.items()})
    if not settings.starts_service:
        idle = [key for key in _OF_A_PRIVATE_SERVICE if extra_config.get(key)]
        if idle:
            where = f"socket {settings.socket!r}" if settings.socket else "TIERCEL_SOCKET"
            raise ValueError(f"kv_connector_extra_config.{idle[0]}: is of a private service, and {where} names one that runs already")
    return settings
