"""The exceptions of Tiercel: Error, and one subclass for each ErrorCode.

The text of an exception is the sentence of the C++ library: it names the key, the value and what would be valid. A
miss, a full cache or a busy queue are outcomes, not errors (LoadOutcome, Reserved).
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._core import ErrorCode


class Error(Exception):
    """What every call of this package raises when it fails."""

    code: ErrorCode
    """Which of the table it is; each subclass has its own."""
    os_error: int = 0
    """The operating system's errno, or 0."""


class InvalidArgumentError(Error, ValueError):
    """A value is malformed or out of its range."""


class UnknownKeyError(Error, ValueError):
    """A configuration key or option that does not exist."""


class UnsupportedError(Error):
    """Well-formed, but this version or this machine cannot do it."""


class NotFoundError(Error):
    """A file, a directory or an object that should exist does not."""


class OutOfMemoryError(Error, MemoryError):
    """Memory, address space or a configured capacity is exhausted."""


class LimitError(Error):
    """A configured bound (sessions, pins, namespaces) is reached."""


class ClosedError(Error):
    """The cache, the client, the session or the handle is closed."""


class TimeoutError(Error, builtins.TimeoutError):  # noqa: A001 - the field's name, inside this package
    """The deadline passed first."""


class IoError(Error, OSError):
    """The operating system reported an error; see `os_error`."""


class CorruptError(Error):
    """Data does not agree with its checksum or format."""


class DroppedError(Error):
    """The block was deleted while it was being written."""


class NoParentError(Error):
    """The block before this one is no longer in the cache."""


class IncompleteError(Error):
    """Not all members of the session group have reported their part."""
