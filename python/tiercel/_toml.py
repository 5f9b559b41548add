"""Keywords as the TOML text of a configuration file: every form of value, checked by the table of settings in C++."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping
from typing import Any

_ESCAPES = {'"': '\\"', "\\": "\\\\"}


def _text(text: str) -> str:
    escaped = "".join(_ESCAPES.get(c) or (c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}") for c in text)
    return f'"{escaped}"'


def _value(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, os.PathLike):
        return _text(os.fsdecode(value))
    if isinstance(value, datetime.timedelta):
        return _text(f"{round(value / datetime.timedelta(milliseconds=1))}ms")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(key, item) for item in value) + "]"
    raise TypeError(f"{key}: {type(value).__name__} has no form in a configuration")


def _lines(path: tuple[str, ...], section: Mapping[str, Any]) -> Iterator[str]:
    for name, value in section.items():
        key = (*path, name)
        if isinstance(value, Mapping):
            yield from _lines(key, value)
        else:
            written = ".".join(k if k.isidentifier() and k.isascii() else _text(k) for k in key)
            yield f"{written} = {_value('.'.join(key), value)}"


def write(sections: Mapping[str, Any]) -> str:
    """{"host": {"capacity": "8GiB"}} -> 'host.capacity = "8GiB"', a line a setting."""
    return "\n".join(_lines((), sections))
