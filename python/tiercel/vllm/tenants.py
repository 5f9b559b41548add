"""Which tenants the service's configuration names: the KV of a request whose cache_salt is one of them is that tenant's.

The service is asked over the socket for people beside its own (docs/operations.md): at the start, and again, on a thread of
its own, when a request with a salt comes and the answer is old. It answers its own user and root alone; to others there are no
tenants, and each salt stays a key.
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Callable

_ASK_S = 1.0  # for an answer
_OLD_S = 10.0

log = logging.getLogger("tiercel")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("tiercel", timeout=_ASK_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_ASK_S)
        self.sock.connect(self._path)


def configured(service: str) -> frozenset[str]:
    """The tenants with settings, of the service at this socket. OSError, HTTPException or ValueError: it gave no answer."""
    connection = _Connection(service + ".admin")
    try:
        connection.request("POST", "/admin/quota", "{}")
        reply = connection.getresponse()
        body = reply.read()
    finally:
        connection.close()
    if reply.status != 200:
        raise ValueError(f"{reply.status}: {body.decode(errors='replace')[:200]}")
    try:
        return frozenset(str(tenant["tenant"]) for tenant in json.loads(body)["tenants"] if tenant["configured"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{error} in its answer") from error


class Tenants:
    """What was answered last. Safe from several threads."""

    def __init__(self, service: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Asks, and waits for the answer."""
        self._service, self._clock = service, clock
        self._names: frozenset[str] = frozenset()
        self._lock = threading.Lock()  # guards _asking and _asked_at
        self._asking = False
        self._asked_at = clock()
        self._said = ""
        self._ask()

    @property
    def names(self) -> frozenset[str]:
        return self._names

    def of(self, salt: str | None) -> str:
        """The tenant that a cache_salt names; empty: none. Never waits. `default` is none: requests without a salt are there."""
        if not salt:
            return ""
        with self._lock:
            is_due = not self._asking and self._clock() > self._asked_at + _OLD_S
            self._asking |= is_due
        if is_due:
            try:
                threading.Thread(target=self._ask, name="tiercel-tenants", daemon=True).start()
            except RuntimeError as error:  # the system gives no thread
                self._answered(error)
        return salt if salt in self._names and salt != "default" else ""

    def _ask(self) -> None:
        try:
            names = configured(self._service)
            if names != self._names:
                log.info("TiercelConnector: tenants that a cache_salt may name: %s", ", ".join(sorted(names)) or "none")
            self._names = names
            self._answered()
        except Exception as error:  # whatever it is: what was known holds on
            self._answered(error)

    def _answered(self, error: Exception | None = None) -> None:
        with self._lock:
            self._asking, self._asked_at = False, self._clock()
        if error is not None and str(error) != self._said:
            self._said = str(error)
            log.info("TiercelConnector: the service does not tell its tenants, %s: %s", "those known stay" if self._names else
                     "so that each cache_salt is a key", error)
