"""The chain of a request: what names its blocks besides its tokens.

A block's KV also depends on the LoRA adapter, and cache_salt asks for blocks apart. Both enter the hash of the first
block and so of every later one; but a salt that names a tenant (tenants.py) chooses the namespace instead. vLLM knows an adapter by its name alone; here it is the SHA-256 of its files, taken when
its number is first seen, for the engine loads an adapter once and keeps it. Requests whose tokens do not say what the
model sees (images, prompt embeddings) have no chain: their KV is neither stored nor looked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

import tiercel


_KEPT_DIGESTS = 1000  # a file of 200 bytes each; one that is missing costs reading its file again


def digest_directory() -> str:
    """Where digests of files are kept, $TIERCEL_CACHE_DIR, by default ~/.cache/tiercel; empty where that cannot be. The oldest
    go first where there are too many, for adapters come and go and nothing tells when their files are gone."""
    kept = Path(os.environ.get("TIERCEL_CACHE_DIR") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tiercel")
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with os.scandir(kept) as entries:
            digests = [entry for entry in entries if entry.name.startswith("tiercel-digest-")]
        if len(digests) > _KEPT_DIGESTS:
            _remove_oldest(digests, len(digests) - _KEPT_DIGESTS)
    except OSError:
        return ""
    return str(kept)


def _remove_oldest(digests: list[os.DirEntry[str]], count: int) -> None:
    ages = {}
    for entry in digests:
        with contextlib.suppress(OSError):  # another process has removed it
            ages[entry.path] = entry.stat().st_mtime_ns
    for path in sorted(ages, key=lambda path: ages[path])[:count]:
        with contextlib.suppress(OSError):
            os.unlink(path)


class NoKeysError(Exception):
    """Why a request has no chain."""


class AdapterDigests:
    """Digests of LoRA adapters, by their number in the engine. Belongs to one thread."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[tuple[Any, ...], bytes]] = {}  # number: (state of the files, digest)

    def digest(self, number: int, path: str, load_inplace: bool) -> bytes:
        """NoKeysError: the files have changed since the engine first loaded them, so what it computes with is not known."""
        state = self._state(path)
        known = self._known.get(number)
        if known is None or load_inplace:
            known = self._known[number] = (state, self._read(path))
        elif known[0] != state:
            raise NoKeysError(f"LoRA adapter {number}: the files of {path} have changed since it was loaded")
        return known[1]

    @staticmethod
    def _files(path: str) -> list[Path]:
        folder = Path(path)
        files = sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
        if not files:
            raise NoKeysError(f"LoRA adapter: {path} is no folder with files")
        return files

    def _state(self, path: str) -> tuple[Any, ...]:
        stats = [(file.name, file.stat()) for file in self._files(path)]
        return tuple((name, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats)

    def _read(self, path: str) -> bytes:
        whole = hashlib.sha256()
        for file in self._files(path):
            name = file.name.encode()
            whole.update(len(name).to_bytes(4, "little") + name + tiercel.file_digest(str(file), digest_directory()))
        return whole.digest()


def extra_keys(request: Any, adapters: AdapterDigests, epoch: bytes, tenant: str = "") -> list[tiercel.ExtraKey]:
    """Of a vLLM request. epoch: random since this engine's cache was reset, before that empty. tenant: the one that its salt
    names, in whose namespace its chain is."""
    if getattr(request, "mm_features", None):
        raise NoKeysError("requests with images, audio or video are not kept yet")
    if getattr(request, "prompt_embeds", None) is not None:
        raise NoKeysError("requests with prompt embeddings are not kept")
    keys = []
    if epoch:
        keys.append(b"epoch:" + epoch)
    lora = getattr(request, "lora_request", None)
    if lora is not None:
        try:
            digest = adapters.digest(lora.lora_int_id, lora.lora_path, getattr(lora, "load_inplace", False))
        except OSError as error:
            raise NoKeysError(f"LoRA adapter {lora.lora_int_id}: {error}") from error
        keys.append(b"lora:" + digest)
    salt = getattr(request, "cache_salt", None)
    if salt and not tenant:
        keys.append(b"salt:" + salt.encode())
    return [tiercel.ExtraKey(key) for key in keys]
