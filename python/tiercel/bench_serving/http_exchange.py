"""One HTTP/1.1 exchange on a connection of its own, by asyncio and h11; bodies come as they arrive.

A connection for each request, so that no request waits behind another and none meets a connection that the server has just closed.
Not thread-safe; of one event loop. Nothing here waits longer than the caller's own limit except for the connection, which has one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11

CONNECT_SECONDS = 10.0
MOST_BODY_BYTES = 64 << 20  # of a short call; metrics of a large server are a few MB
_READ_BYTES = 1 << 16


class RequestFailed(Exception):
    """A request without a whole answer. `kind` is the class it is counted under, the message one sentence."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Endpoint:
    """Where a server is. `root` is the path before `/v1`, without a slash at its end."""

    scheme: str
    host: str
    port: int
    root: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # of every request; they may hold a key

    @classmethod
    def parse(cls, text: str, headers: tuple[tuple[str, str], ...] = ()) -> Endpoint:
        """ValueError: not http://HOST:PORT or https://HOST:PORT, with or without a path."""
        parts = urlsplit(text if "//" in text else f"http://{text}")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
            raise ValueError(f"{text} is no address such as http://127.0.0.1:8000")
        port = parts.port or (443 if parts.scheme == "https" else 80)  # ValueError of its own if it is no number
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/").removesuffix("/v1"), headers)

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.root}"


class Exchange:
    """A request that was sent. `sent` is perf_counter() just before its first byte, with the connection already there."""

    def __init__(self, connection: h11.Connection, reader: asyncio.StreamReader) -> None:
        self.sent = time.perf_counter()
        self.status = 0
        self._connection, self._reader = connection, reader

    async def read_head(self) -> None:
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                self.status = event.status_code
                return
            if not isinstance(event, h11.InformationalResponse):
                raise RequestFailed("cut off", "the server closed the connection without an answer")

    async def body(self) -> AsyncIterator[bytes]:
        """Pieces as they arrive. RequestFailed("cut off"): it ends before its end."""
        while True:
            event = await self._next()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return
            else:
                raise RequestFailed("cut off", "the connection ended in mid-answer")

    async def _next(self) -> object:
        try:
            while (event := self._connection.next_event()) is h11.NEED_DATA:
                self._connection.receive_data(await self._reader.read(_READ_BYTES))
        except h11.RemoteProtocolError as error:
            if self._reader.at_eof():
                raise RequestFailed("cut off", "the connection ended in mid-answer") from error
            raise RequestFailed("not HTTP", f"the answer is not HTTP/1.1: {error}") from error
        except OSError as error:
            raise RequestFailed("cut off", f"the connection broke: {reason(error)}") from error
        return event


@contextlib.asynccontextmanager
async def exchange(endpoint: Endpoint, method: str, path: str, body: bytes = b"") -> AsyncIterator[Exchange]:
    """Sends a request and reads the head of its answer. RequestFailed: no connection in time, or no HTTP on it."""
    tls = ssl.create_default_context() if endpoint.scheme == "https" else None
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(endpoint.host, endpoint.port, ssl=tls), CONNECT_SECONDS)
    except asyncio.TimeoutError:
        raise RequestFailed("no connection", f"no connection in {CONNECT_SECONDS:.0f} s") from None
    except OSError as error:
        raise RequestFailed("no connection", f"no connection: {reason(error)}") from error
    try:
        connection = h11.Connection(h11.CLIENT)
        headers = [("Host", endpoint.authority), ("Connection", "close"), *endpoint.headers]
        if body:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        head = connection.send(h11.Request(method=method, target=endpoint.root + path, headers=headers)) or b""
        data = connection.send(h11.Data(data=body)) or b""
        connection.send(h11.EndOfMessage())
        sent = Exchange(connection, reader)
        with contextlib.suppress(OSError):  # a server may answer and close before it has read all: the answer says why
            writer.write(head + data)
            await writer.drain()
        await sent.read_head()
        yield sent
    finally:
        writer.close()


async def call(endpoint: Endpoint, method: str, path: str, body: bytes = b"", seconds: float = 30.0) -> tuple[int, bytes]:
    """A short request, whole: status and body. RequestFailed: none in so many seconds, or a body beyond MOST_BODY_BYTES."""
    async def whole() -> tuple[int, bytes]:
        async with exchange(endpoint, method, path, body) as answer:
            pieces, size = [], 0
            async for piece in answer.body():
                pieces.append(piece)
                size += len(piece)
                if size > MOST_BODY_BYTES:
                    raise RequestFailed("too long", f"{path} answers with more than {MOST_BODY_BYTES >> 20} MiB")
            return answer.status, b"".join(pieces)

    try:
        return await asyncio.wait_for(whole(), seconds)
    except asyncio.TimeoutError:
        raise RequestFailed("timeout", f"{path}: no answer in {seconds:g} s") from None


def reason(error: OSError) -> str:
    """What the system says, without the address, which the caller knows. asyncio puts words of its own into strerror."""
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error) or type(error).__name__
