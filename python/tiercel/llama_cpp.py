"""llama-cpp-python with tiers: the states of prompts in RAM and on disk, shared by processes, found by longest prefix.

    llm = llama_cpp.Llama("model.gguf", n_ctx=8192)
    llm.set_cache(TiercelCache(llm, host={"capacity": "8GiB"},
                               disk={"directories": ["/nvme/kv"], "capacity": "100GiB"}))

llama-cpp-python hands a cache the state of its whole context after each completion. What is stored of it:

  state    its bytes in chunks of `chunk_bytes`, a chain of blocks under a random name of its own, so that parts of two
           states never mix. The token ids and, where the model keeps all logits, the scores lie in front of it.
  pointer  for each token block that it begins with, under that block's hash: the state's name and lengths. A prompt
           that shares n blocks with a state finds it by the n-th; a pointer whose state was evicted leads nowhere
           until the next state that begins alike takes its place.

A state is used by what decides its bytes: the model's files, the parameters of the context, the build of llama.cpp.
Prompts with images or audio are neither stored nor looked for: their tokens do not say what the model saw.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import struct
import uuid
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import llama_cpp
import numpy as np
from llama_cpp.llama_cache import BaseLlamaCache

import tiercel

_NAME_TOKENS = 8  # a hash of 32 bytes, as token ids
_DROPS_A_STORE = 16  # of pointers to states that are gone: with a disk tier each is synced
_HEAD = struct.Struct("<Q")  # length of the JSON text at the start of a state
_NOT_IN_IDENTITY = {"n_threads", "n_threads_batch", "no_perf"}

_log = logging.getLogger("tiercel")


class _Pointer(NamedTuple):
    name: bytes  # of the state, 16 bytes
    ids_digest: bytes  # SHA-256 of its token ids
    front_chunks: int
    chunks: int  # with those in front

    FORM = struct.Struct("<4s16s32sII")
    MAGIC = b"TSP1"

    def pack(self) -> bytes:
        return self.FORM.pack(self.MAGIC, *self)

    @classmethod
    def unpack(cls, data: memoryview) -> _Pointer | None:
        if data.nbytes != cls.FORM.size:
            return None
        magic, *fields = cls.FORM.unpack(data)
        return cls(*fields) if magic == cls.MAGIC else None


def weight_files(path: str) -> list[str]:
    """Every file of a model: PREFIX-00001-of-00005.gguf stands for all five."""
    split = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", path)
    if not split:
        return [path]
    return [f"{split[1]}-{i:05}-of-{split[3]}.gguf" for i in range(1, int(split[3]) + 1)]


def identity_of(llm: llama_cpp.Llama) -> tiercel.ModelIdentity:
    """All that decides the bytes of this model's states. Reads its files in full, once: the digests are kept in
    $TIERCEL_CACHE_DIR, by default ~/.cache/tiercel."""
    kept = Path(os.environ.get("TIERCEL_CACHE_DIR")
                or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tiercel")
    with contextlib.suppress(OSError):
        kept.mkdir(parents=True, exist_ok=True)
    directory = str(kept) if kept.is_dir() else ""

    def digest(path: str) -> bytes:
        return tiercel.file_digest(path, directory)

    params = llm.context_params
    properties = {"engine": "llama-cpp-python", "version": llama_cpp.__version__}
    for name, _ in params._fields_:
        value = getattr(params, name)
        if isinstance(value, (bool, int, float)) and name not in _NOT_IN_IDENTITY:
            properties[f"context.{name}"] = value.hex() if isinstance(value, float) else str(int(value))
    library = getattr(getattr(llama_cpp.llama_cpp, "_lib", None), "_name", "")
    if library and os.path.isfile(library):
        properties["library"] = digest(library).hex()
    if llm.lora_path:
        properties["lora"] = f"{digest(llm.lora_path).hex()} {llm.lora_scale!r}"
    if getattr(llm, "kv_overrides", None):
        properties["kv_overrides"] = repr(sorted(llm.kv_overrides.items()))
    weights = [digest(file) for file in weight_files(llm.model_path)]
    return tiercel.ModelIdentity(name=os.path.basename(llm.model_path), weights=weights, config_digest=weights[0],
                                 kv_dtype=f"k={params.type_k},v={params.type_v}", properties=properties)


class TiercelCache(BaseLlamaCache):
    """A cache for Llama.set_cache(): one for each model, safe from several threads.

    llm: the model whose states are kept. cache: a tiercel.Cache or tiercel.Client to keep them in, shared with others;
    without one a cache of its own is opened from `config` and keywords, as tiercel.Cache.open(). block_tokens: the
    grain of prefixes, at least 8; a prompt that is shorter is not kept. deadline_s: how long a lookup may take, after
    which the model computes. A failure costs hits, never a completion: it is logged once a cause."""

    def __init__(self, llm: llama_cpp.Llama, config: tiercel.Config | None = None, *,
                 cache: tiercel.Cache | tiercel.Client | None = None, model: tiercel.ModelIdentity | None = None,
                 block_tokens: int = 64, deadline_s: float = 2.0, chunk_bytes: int = 1 << 20, **sections: Any) -> None:
        if block_tokens < _NAME_TOKENS:
            raise ValueError(f"block_tokens: {block_tokens} is below the least, {_NAME_TOKENS}")
        if cache is not None and (config is not None or sections):
            raise ValueError("cache: is open already; give its settings where it is opened")
        model = model if model is not None else identity_of(llm)
        self._own = None if cache is not None else tiercel.Cache.open(config, **sections)
        self._cache = cache if cache is not None else self._own
        self._pointers = self._cache.open_session(model, tiercel.Layout.blob(_Pointer.FORM.size), block_tokens)
        self._states = self._cache.open_session(model, tiercel.Layout.blob(chunk_bytes), _NAME_TOKENS)
        super().__init__(self._capacity())
        self._block_tokens, self._deadline_s, self._chunk_bytes = block_tokens, deadline_s, chunk_bytes
        self._llm = weakref.ref(llm)
        self._with_scores = bool(getattr(llm, "_logits_all", True))
        self._stored_bytes = 0
        self._logged: set[str] = set()

    def _capacity(self) -> int:
        if not isinstance(self._cache, tiercel.Cache):
            return 0
        return sum(tier.capacity_bytes for tier in self._cache.stats().tiers)

    @property
    def cache_size(self) -> int:
        """Bytes in RAM of a Cache, with all that is in it; of a Client, what this object has stored so far."""
        if isinstance(self._cache, tiercel.Cache):
            return self._cache.stats().tiers[0].used_bytes
        return self._stored_bytes

    def close(self) -> None:
        """Closes its sessions, and the cache if it is its own."""
        self._pointers.close()
        self._states.close()
        if self._own is not None:
            self._own.close()

    def __enter__(self) -> TiercelCache:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def __getitem__(self, key: Sequence[int]) -> llama_cpp.llama.LlamaState:
        try:
            ids = self._ids(key)
            for pointer, tokens in self._found(ids):
                state = self._load(pointer)
                if state is not None and np.array_equal(state.input_ids[:tokens], ids[:tokens]):
                    return state
        except tiercel.Error as error:
            self._complain(error)
        raise KeyError("Key not found")

    def __contains__(self, key: Sequence[int]) -> bool:
        try:
            return any(True for _ in self._found(self._ids(key)))
        except tiercel.Error as error:
            self._complain(error)
            return False

    def __setitem__(self, key: Sequence[int], value: llama_cpp.llama.LlamaState) -> None:
        try:
            self._store(value)
        except tiercel.Error as error:
            self._complain(error)

    def _complain(self, error: tiercel.Error) -> None:
        if str(error) not in self._logged and len(self._logged) < 100:
            self._logged.add(str(error))
            _log.warning("llama.cpp goes on without the cache: %s", error)

    def _ids(self, key: Sequence[int]) -> np.ndarray:
        """The token ids that say all about a prompt; none, where they do not."""
        handler = getattr(self._llm(), "chat_handler", None)
        ids = np.asarray(key, dtype=np.int32)
        if hasattr(handler, "clip_model_path") or (ids < 0).any():
            return ids[:0]
        return ids

    def _chain(self, ids: np.ndarray) -> tiercel.BlockChain:
        return tiercel.BlockChain(self._pointers.space(), np.ascontiguousarray(ids))

    def _place(self, block_hash: bytes) -> tiercel.BlockChain:
        """Where the pointer of a token block is."""
        tokens = np.zeros(self._block_tokens, dtype=np.int32)
        tokens[:_NAME_TOKENS] = np.frombuffer(block_hash, dtype=np.int32)
        return self._chain(tokens)

    def _chunk_chain(self, pointer: _Pointer) -> tiercel.BlockChain:
        tokens = np.zeros((pointer.chunks, _NAME_TOKENS), dtype=np.int32)
        tokens[:, 0] = np.arange(pointer.chunks)
        tokens[0, 1:5] = np.frombuffer(pointer.name, dtype=np.int32)
        return tiercel.BlockChain(self._states.space(), tokens.reshape(-1))

    def _read_pointer(self, place: tiercel.BlockChain) -> _Pointer | None:
        if self._pointers.match(place).blocks == 0:
            return None
        with self._pointers.load(place, 1, self._deadline_s) as load:
            views = load.wait()
            return _Pointer.unpack(views[0]) if views else None

    def _is_whole(self, pointer: _Pointer) -> bool:
        return self._states.match(self._chunk_chain(pointer)).blocks == pointer.chunks

    def _found(self, ids: np.ndarray) -> Iterator[tuple[_Pointer, int]]:
        """Pointers to states that are there, longest common prefix first, with its number of tokens."""
        chain = self._chain(ids)
        gone: set[bytes] = set()
        for block in reversed(range(len(chain))):
            pointer = self._read_pointer(self._place(chain[block]))
            if pointer is None or pointer.name in gone:
                continue
            if self._is_whole(pointer):
                yield pointer, (block + 1) * self._block_tokens
            gone.add(pointer.name)

    def _load(self, pointer: _Pointer) -> llama_cpp.llama.LlamaState | None:
        with self._states.load(self._chunk_chain(pointer), pointer.chunks, self._deadline_s) as load:
            views = load.wait()
            if len(views) != pointer.chunks:
                return None
            front = b"".join(views[: pointer.front_chunks])
            return self._unpack(front, b"".join(views[pointer.front_chunks :]), pointer)

    def _unpack(self, front: bytes, llama_state: bytes, pointer: _Pointer) -> llama_cpp.llama.LlamaState | None:
        (length,) = _HEAD.unpack_from(front)
        head = json.loads(front[_HEAD.size : _HEAD.size + length])
        n_tokens, start = head["n_tokens"], _HEAD.size + length
        input_ids = np.full(head["input_ids"], -1, dtype=np.intc)  # what lies behind the state's tokens is nobody's
        input_ids[:n_tokens] = np.frombuffer(front, dtype=np.int32, count=n_tokens, offset=start)
        if hashlib.sha256(input_ids[:n_tokens].tobytes()).digest() != pointer.ids_digest:
            return None
        scores = np.zeros(head["scores"], dtype=np.single)
        if head["with_scores"]:
            start += input_ids.itemsize * n_tokens
            scores.reshape(-1)[:] = np.frombuffer(front, dtype=np.single, count=scores.size, offset=start)
        return llama_cpp.llama.LlamaState(input_ids=input_ids, scores=scores, n_tokens=n_tokens,
                                          llama_state=llama_state, llama_state_size=len(llama_state),
                                          seed=head["seed"])

    def _pack(self, state: llama_cpp.llama.LlamaState, ids: np.ndarray) -> bytes:
        head = json.dumps({"n_tokens": int(state.n_tokens), "seed": int(state.seed), "input_ids": len(state.input_ids),
                           "scores": list(state.scores.shape), "with_scores": self._with_scores}).encode()
        scores = np.ascontiguousarray(state.scores, dtype=np.single).tobytes() if self._with_scores else b""
        return b"".join((_HEAD.pack(len(head)), head, ids.tobytes(), scores))

    def _store(self, state: llama_cpp.llama.LlamaState) -> None:
        ids = self._ids(state.input_ids[: state.n_tokens])
        chain = self._chain(ids)
        if len(chain) == 0 or state.llama_state_size == 0:
            return
        ids_digest = hashlib.sha256(ids.tobytes()).digest()
        places = [self._place(block_hash) for block_hash in chain]
        known = self._read_pointer(places[-1])
        if known is not None and known.ids_digest == ids_digest and self._is_whole(known):
            return  # the same tokens again
        llama_state = memoryview(state.llama_state)[: state.llama_state_size]
        pointer = self._write_state(self._pack(state, ids), llama_state, ids_digest)
        if pointer is None:
            return
        drops = 0
        for place in reversed(places):
            if self._write_pointer(place, pointer) or drops == _DROPS_A_STORE:
                continue
            other = self._read_pointer(place)
            if other is not None and not self._is_whole(other):  # one that is whole is as good
                self._pointers.drop(place, 0)
                self._write_pointer(place, pointer)
                drops += 1

    def _write_pointer(self, place: tiercel.BlockChain, pointer: _Pointer) -> bool:
        """False: there is one already, or no room."""
        with self._pointers.reserve(place, 0) as room:
            if room[0].outcome != tiercel.Reserved.YES:
                return False
            room[0].write(pointer.pack())
            return room.commit_all().blocks == 1

    def _write_state(self, front: bytes, llama_state: memoryview, ids_digest: bytes) -> _Pointer | None:
        """None: there is no room for all of it now, and nothing is kept."""
        front_pieces = self._pieces(memoryview(front))
        pieces = front_pieces + self._pieces(llama_state)
        pointer = _Pointer(uuid.uuid4().bytes, ids_digest, len(front_pieces), len(pieces))
        with self._states.reserve(self._chunk_chain(pointer), 0) as room:
            if len(room) != len(pieces) or any(writer.outcome != tiercel.Reserved.YES for writer in room):
                return None
            for writer, piece in zip(room, pieces):
                writer.write(piece)
            done = room.commit(range(len(pieces)), [piece.nbytes for piece in pieces])
        self._stored_bytes += len(front) + llama_state.nbytes
        return pointer if done.blocks == len(pieces) else None

    def _pieces(self, data: memoryview) -> list[memoryview]:
        return [data[i : i + self._chunk_bytes] for i in range(0, data.nbytes, self._chunk_bytes)]
