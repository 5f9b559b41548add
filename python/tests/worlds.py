"""What the tests of the package share: a small cache, blocks that can be told apart, and ends that are waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

import tiercel

BLOCK_TOKENS = 16
BLOCK_BYTES = 300_000
LOAD_S = 30.0  # no test is about this deadline


def open_cache(capacity="64MiB", **sections):
    return tiercel.Cache.open(host={"capacity": capacity, "prefault": False, "extent_bytes": "16MiB"}, **sections)


def open_session(cache, block_bytes=BLOCK_BYTES, **more):
    model = tiercel.ModelIdentity(name="test", kv_dtype="f16")
    return cache.open_session(model, tiercel.Layout.blob(block_bytes), BLOCK_TOKENS, **more)


def chain_of(session, blocks, first_token=0):
    return tiercel.BlockChain(session.space(), range(first_token, first_token + blocks * BLOCK_TOKENS))


def content(chain, block, size=BLOCK_BYTES):
    """Bytes that no other block of any chain has."""
    return (chain[block] * (size // 32 + 1))[:size]


def store(session, chain, first=0):
    """How many blocks were published."""
    with session.reserve(chain, first) as room:
        for writer in room:
            if writer.outcome == tiercel.Reserved.YES:
                writer.write(content(chain, first + writer.number))
        return room.commit_all().blocks


def load(session, chain):
    """The views of all its blocks that are there."""
    with session.load(chain, len(chain), LOAD_S) as loading:
        return loading.wait()


def pinned(cache):
    """What is held of a cache that nobody should hold anything of."""
    stats = cache.stats()
    host = stats.tiers[0]
    return {"copy pins": stats.copy_pins, "logical pins": stats.logical_pins, "quarantined": host.quarantined_slots}


NOTHING = {"copy pins": 0, "logical pins": 0, "quarantined": 0}


def until(look, what, patience_s=60):
    """Waits for something that comes by itself, at a time that nobody promises."""
    end = time.monotonic() + patience_s
    while not look():
        if time.monotonic() > end:
            raise AssertionError(f"it did not come: {what}")
        time.sleep(0.005)


def run_program(text, *arguments, **environment):
    """Runs a program of its own; returns what it said."""
    command = [sys.executable, "-W", "ignore", "-X", "faulthandler", "-c", text, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, **environment})
    if done.returncode != 0 or done.stderr:
        raise AssertionError(f"ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def folder(test):
    made = tempfile.TemporaryDirectory(prefix="tiercel-python-")
    test.addCleanup(made.cleanup)
    return made.name
