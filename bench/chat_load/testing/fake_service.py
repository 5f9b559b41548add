#!/usr/bin/env python3
"""A program with the flags of `tiercel serve` and no cache behind it; in the place of its socket it leaves a file that names its disk.

FAKE_SERVICE=die_at_end: exits with 5 after SIGTERM. It writes its process id to <socket>.pid.
"""
from __future__ import annotations

import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(BaseHTTPRequestHandler):
    disk: Path | None = None
    recovered = 0

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: its output is what the real one prints."""

    def do_GET(self) -> None:
        text = "{}"
        if self.path == "/metrics":
            blocks = _lines(self.disk)
            text = (f'tiercel_tier_blocks{{tier="disk"}} {blocks}\ntiercel_disk_directories{{state="starting"}} 0\n'
                    f"tiercel_disk_recovered_blocks_total {self.recovered}\ntiercel_disk_checksum_failures_total 0\n"
                    f"tiercel_promoted_blocks_total {min(self.recovered, blocks - self.recovered)}\n")
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def _lines(disk: Path | None) -> int:
    return len(disk.read_text().splitlines()) if disk and disk.exists() else 0


def main() -> int:
    arguments = sys.argv[1:]
    socket = Path(arguments[arguments.index("--service-socket") + 1])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before any thread starts: the signal waits for sigwait below
    if "--disk" in arguments:
        _Handler.disk = Path(arguments[arguments.index("--disk") + 1], "tiercel.kv").resolve()
        _Handler.recovered = _lines(_Handler.disk)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    Path(f"{socket}.pid").write_text(str(os.getpid()))
    socket.write_text(str(_Handler.disk or ""))
    print(f"live page  http://127.0.0.1:{server.server_port}/\nmetrics    http://127.0.0.1:{server.server_port}/metrics", flush=True)
    signal.sigwait({signal.SIGTERM})
    return 5 if os.environ.get("FAKE_SERVICE") == "die_at_end" else 0


if __name__ == "__main__":
    sys.exit(main())
