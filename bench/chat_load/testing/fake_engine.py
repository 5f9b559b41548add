#!/usr/bin/env python3
"""A program with the flags of tiercel-llama and no model behind it; without --port-file it stands in for llama-server.

FAKE_ENGINE says how it behaves:

  refuse       ends at once with exit code 3 and a line on stderr
  die:N        ends without a word when the N-th chat request arrives
  hang:N:FIFO  never answers the N-th chat request; opens FIFO for writing when it arrives
  stubborn     ignores SIGTERM
  bad_exit     exits with 7 after SIGTERM
  forget       starts with an empty disk, whatever lies there
It writes its process id to <port file>.pid and its arguments to <port file>.args. The behaviour counts from the pass named in FAKE_ENGINE_PASS on,
if that is set (the stem of the port file, or llama-server).
"""
from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from chat_load.testing.fake_openai import FakeOpenAi


def main() -> int:
    arguments = sys.argv[1:]
    port = int(arguments[arguments.index("--port") + 1])
    port_file = Path(arguments[arguments.index("--port-file") + 1]) if "--port-file" in arguments else None
    name = port_file.stem if port_file else "llama-server"
    kind, number, fifo = [*os.environ.get("FAKE_ENGINE", "").split(":", 2), "", ""][:3]
    if os.environ.get("FAKE_ENGINE_PASS", name) != name:
        kind = ""
    if kind == "refuse":
        print("error: model: no such file", file=sys.stderr)
        return 3

    def behaviour(request: int) -> str:
        if kind == "die" and request == int(number):
            os._exit(9)
        if kind == "hang" and request == int(number):
            Path(fifo).write_text("hanging\n")
            threading.Event().wait()
        return "whole"

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before any thread starts: the signal waits for sigwait below
    disk = Path(arguments[arguments.index("--disk") + 1], "tiercel.kv") if "--disk" in arguments else None
    if "--service" in arguments:
        named = Path(arguments[arguments.index("--service") + 1]).read_text()
        disk = Path(named) if named else None
    if disk and kind == "forget":
        disk.unlink(missing_ok=True)
    server = FakeOpenAi(behaviour, port, disk)
    server.start()
    if port_file:
        port_file.with_suffix(".pid").write_text(str(os.getpid()))
        port_file.with_suffix(".args").write_text("\n".join(arguments))
        port_file.write_text(f"{server.port}\n")
    signal.sigwait({signal.SIGTERM} if kind != "stubborn" else {signal.SIGUSR1})
    return 7 if kind == "bad_exit" else 0


if __name__ == "__main__":
    sys.exit(main())
