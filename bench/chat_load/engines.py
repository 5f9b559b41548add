"""The command lines of the servers that the load can run against, with the same slots, context and one unified KV cache."""
from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from chat_load.disk_directory import DiskDirectory
from chat_load.served import METRICS, ServedEngine
from chat_load.server import Server, free_port


@dataclass(frozen=True)
class EngineSettings:
    model: Path
    slots: int
    context_tokens: int
    output: Path  # directory for logs and port files


def processors() -> int:
    """That this program may use: what each engine gets as threads, instead of each one's own default."""
    return len(os.sched_getaffinity(0))


def tiercel_server(binary: Path, settings: EngineSettings, name: str, host_capacity: str | None, keep: bool = False,
                   disk: DiskDirectory | None = None, service: Path | None = None) -> Server | ServedEngine:
    """tiercel-llama; host_capacity None is the run without Tiercel, disk None the one without a disk tier.

    service: the program `tiercel`. Then the tiers are those of a `tiercel serve` beside it, which is started and ended with it.
    """
    port_file = settings.output / f"{name}.port"
    command = [str(binary), "--model", str(settings.model), "--slots", str(settings.slots), "--context", str(settings.context_tokens),
               "--threads", str(processors()), "--port", "0", "--port-file", str(port_file)]
    tiers = ["--cache", "off"] if host_capacity is None else ["--host-capacity", host_capacity]
    if disk:
        tiers += ["--disk", str(disk.path), "--disk-capacity", disk.capacity]
    served = service is not None and host_capacity is not None
    socket = os.path.relpath(settings.output / f"{name}.sock")  # a socket's path has 107 characters at most
    command += ["--service", socket] if served else tiers
    engine = Server(f"tiercel-llama ({name})", command, settings.output / f"{name}.log", port_file=port_file, keep=keep)
    if not served:
        return engine
    serve = [str(service), "serve", *tiers, "--service-socket", socket, "--http-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    return ServedEngine(engine, Server(f"tiercel serve ({name})", serve, settings.output / f"{name}.service.log", port_in_log=METRICS,
                                       keep=keep, health="/healthz"))


def llama_server(binary: Path, settings: EngineSettings, name: str, cache_ram_mib: int) -> Server:
    """llama.cpp's own server, which cannot pick a port by itself."""
    port = free_port()
    command = [str(binary), "--model", str(settings.model), "--parallel", str(settings.slots), "--ctx-size", str(settings.context_tokens),
               "--kv-unified", "--cache-ram", str(cache_ram_mib), "--threads", str(processors()), "--flash-attn", "on",
               "--host", "127.0.0.1", "--port", str(port), "--metrics"]
    return Server(f"llama-server ({name})", command, settings.output / f"{name}.log", port=port)
