#!/usr/bin/env python3
"""transfer_kill_test.py TIERCEL [KILLS] [DEVICE LIBRARY]: a rank that is killed in the middle of its copies.

A service with a small arena, an engine of a scheduler (here) and a rank (a process of its own) whose pages lie in host
memory, or on CUDA device DEVICE. The rank is killed with signal 9 while it stores or loads; then another engine stores
at once, into whatever slots there are.
Goal: whatever a cache gives is what was committed under that name, no slot is used again while the dead rank could
still write it, and in the end nothing is held."""

import ctypes
import json
import os
import random
import subprocess
import sys
import time
import unittest
import urllib.request

import numpy
import worlds

import tiercel
from tiercel import Axis, EngineTensor, StateKind, Transfer

LAYERS, HEADS, TOKENS, WIDTH, PAGES = 4, 8, 64, 1024, 10
LAYER_BYTES = HEADS * TOKENS * WIDTH
BLOCKS = 8  # of a chain: 16 MiB
FLAGS = ["--ram", "128MiB", "--host-extent-bytes", "16MiB", "--host-prefault", "false"]
PROGRAM, KILLS, DEVICE, LIBRARY = "", 12, None, ""


def content(seed, block):
    """Of a block: layer by layer, as its pages lie."""
    words = numpy.arange(LAYERS * LAYER_BYTES // 4, dtype=numpy.uint32)
    return (words * numpy.uint32(2654435761) + numpy.uint32(seed * 1000 + block)).view(numpy.uint8)


def open_session(client, group=None):
    runs = [tiercel.Run(layer=layer, kind=StateKind.KEY_VALUE, heads=HEADS, bytes_per_head_token=WIDTH)
            for layer in range(LAYERS)]
    return client.open_session(tiercel.ModelIdentity(name="killed", kv_dtype="f16"),
                               tiercel.Layout([tiercel.Group(runs)]), TOKENS, group=group or tiercel.SessionGroup())


def chain_of(session, seed):
    return tiercel.BlockChain(session.space(), range(seed * BLOCKS * TOKENS, (seed + 1) * BLOCKS * TOKENS))


class HostPages:
    def __init__(self):
        self.layers = [numpy.zeros((PAGES, LAYER_BYTES), numpy.uint8) for _ in range(LAYERS)]
        self.addresses = [layer.ctypes.data for layer in self.layers]

    def write(self, layer, page, data):
        self.layers[layer][page] = data

    def read(self, layer, page):
        return self.layers[layer][page]


class GpuPages:
    def __init__(self, device):
        self.cuda = ctypes.CDLL("libcudart.so")
        self.call("cudaSetDevice", device)
        self.addresses = []
        for _ in range(LAYERS):
            place = ctypes.c_void_p()
            self.call("cudaMalloc", ctypes.byref(place), ctypes.c_size_t(PAGES * LAYER_BYTES))
            self.addresses.append(place.value)

    def call(self, name, *arguments):
        error = getattr(self.cuda, name)(*arguments)
        if error:
            raise RuntimeError(f"{name}: CUDA error {error}")

    def write(self, layer, page, data):
        self.move(self.addresses[layer] + page * LAYER_BYTES, data.ctypes.data, 1)

    def read(self, layer, page):
        data = numpy.empty(LAYER_BYTES, numpy.uint8)
        self.move(data.ctypes.data, self.addresses[layer] + page * LAYER_BYTES, 2)
        return data

    def move(self, to, origin, kind):
        self.call("cudaMemcpy", ctypes.c_void_p(to), ctypes.c_void_p(origin), ctypes.c_size_t(LAYER_BYTES), kind)


def rank_main(socket):
    """Answers each line of orders by a line."""
    pages = HostPages() if DEVICE is None else GpuPages(DEVICE)
    session = open_session(tiercel.Client.connect(socket), tiercel.SessionGroup("killed", 2, 1))
    axes = [(Axis.PAGE, PAGES, LAYER_BYTES), (Axis.HEAD, HEADS, TOKENS * WIDTH), (Axis.TOKEN, TOKENS, WIDTH),
            (Axis.INNER, WIDTH, 1)]
    tensors = [EngineTensor(name=f"layer {layer}", address=address, storage_bytes=PAGES * LAYER_BYTES, axes=axes,
                            first_layer=layer) for layer, address in enumerate(pages.addresses)]
    transfer = Transfer.open(session, tensors, device=DEVICE, library=LIBRARY, store_bytes_per_second=0)
    print("ready", transfer.describe(), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        seed, places = order["seed"], random.sample(range(PAGES), BLOCKS)
        parts = [content(seed, block).reshape(LAYERS, LAYER_BYTES) for block in range(BLOCKS)]
        if "store" in order:
            for block, page in enumerate(places):
                for layer in range(LAYERS):
                    pages.write(layer, page, parts[block][layer])
            print("copying", flush=True)
            copy = transfer.store(order["store"], range(BLOCKS), places)
        else:
            for page in places:
                for layer in range(LAYERS):
                    pages.write(layer, page, numpy.full(LAYER_BYTES, 0xEE, numpy.uint8))
            chain = tiercel.BlockChain.from_hashes(session.space(), bytes.fromhex(order["load"]))
            load = session.load(chain, BLOCKS, worlds.LOAD_S)
            if len(load.wait()) < BLOCKS:
                print("copying\nmissing", flush=True)
                continue
            print("copying", flush=True)
            copy = transfer.load(load, places)
        if not copy.wait(60) or copy.error is not None:
            print("failed", copy.error, flush=True)
        elif "store" in order:
            session.report(order["store"], range(BLOCKS))
            print("done", flush=True)
        else:
            right = all(numpy.array_equal(pages.read(layer, page), parts[block][layer])
                        for block, page in enumerate(places) for layer in range(LAYERS))
            print("done" if right else "wrong", flush=True)


class Rank:
    def __init__(self, socket):
        command = [sys.executable, __file__, "rank", socket, "-" if DEVICE is None else str(DEVICE), LIBRARY]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = self.line()

    def line(self):
        return self.process.stdout.readline().strip()

    def order(self, **what):
        """Returns when the copy is about to begin."""
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        return self.line()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Killed(unittest.TestCase):
    def setUp(self):
        self.socket = os.path.join(worlds.folder(self), "s.sock")
        self.service = subprocess.Popen([PROGRAM, "serve", *FLAGS, "--service-socket", self.socket, "--http-listen",
                                         "127.0.0.1:0", "--metrics-listen", ""], stdout=subprocess.PIPE, text=True,
                                        stderr=subprocess.DEVNULL)
        self.addCleanup(self.end)
        for line in self.service.stdout:
            if "http://" in line:
                self.page = line[line.index("http://"):].split()[0].rstrip("/,.")
                break
        worlds.until(lambda: os.path.exists(self.socket), "the service")
        client = tiercel.Client.connect(self.socket)
        self.scheduler = open_session(client, tiercel.SessionGroup("killed", 2, 0))
        self.other = open_session(tiercel.Client.connect(self.socket))
        self.rank = Rank(self.socket)
        self.addCleanup(self.rank_ends)
        self.random = random.Random(7)
        self.committed = []
        self.seeds = iter(range(1, 1_000_000))
        self.counts = {"stored": 0, "loaded": 0, "missing": 0, "killed": 0, "checked": 0, "busy": 0}

    def end(self):
        self.service.kill()
        self.service.wait()
        self.service.stdout.close()

    def rank_ends(self):
        self.rank.kill()

    def maybe_kill(self, left):
        """True: the rank was killed somewhere in its copy."""
        if self.random.random() < 0.5 or left == 0:
            return False
        time.sleep(self.random.random() * (0.012 if DEVICE is None else 0.006))
        self.rank.kill()
        self.counts["killed"] += 1
        return True

    def store_by_rank(self, left):
        seed = next(self.seeds)
        chain = chain_of(self.scheduler, seed)
        with self.scheduler.reserve(chain, 0) as room:
            if any(writer.outcome != tiercel.Reserved.YES for writer in room):
                self.counts["busy"] += 1  # what a dead rank held is in quarantine still
                return False
            self.assertEqual(self.rank.order(store=room.id, seed=seed), "copying")
            if self.maybe_kill(left):
                blocks = room.commit_all().blocks  # all, if it had reported
                self.assertIn(blocks, (0, BLOCKS))
                if blocks:
                    self.committed.append(seed)
                return True
            self.assertEqual(self.rank.line(), "done")
            self.assertEqual(room.commit_all().blocks, BLOCKS)
        self.committed.append(seed)
        self.counts["stored"] += 1
        return False

    def load_by_rank(self, left):
        seed = self.random.choice(self.committed[-4:])
        chain = chain_of(self.scheduler, seed)
        self.assertEqual(self.rank.order(load=chain.hash_bytes().hex(), seed=seed), "copying")
        if self.maybe_kill(left):
            return True
        said = self.rank.line()
        self.assertIn(said, ("done", "missing"))
        self.counts["loaded" if said == "done" else "missing"] += 1
        return False

    def store_by_other(self):
        seed = next(self.seeds)
        with self.other.reserve(chain_of(self.other, seed), 0) as room:
            for writer in room:
                if writer.outcome == tiercel.Reserved.YES:
                    writer.write(content(seed, writer.number))
            if room.commit_all().blocks == BLOCKS:
                self.committed.append(seed)

    def check_all(self):
        for seed in self.committed[-12:]:
            chain = chain_of(self.other, seed)
            with self.other.load(chain, BLOCKS, worlds.LOAD_S) as load:
                for block, view in enumerate(load.wait()):
                    numpy.testing.assert_array_equal(numpy.frombuffer(view, numpy.uint8), content(seed, block))
                    self.counts["checked"] += 1

    def test_no_slot_is_used_while_the_dead_could_write_it(self):
        while self.counts["killed"] < KILLS:
            left = KILLS - self.counts["killed"]
            by = self.store_by_rank if not self.committed or self.random.random() < 0.6 else self.load_by_rank
            if by(left):
                self.store_by_other()
                self.store_by_other()
                self.check_all()
                self.rank = Rank(self.socket)
                self.assertRegex(self.rank.said, "^ready")
        self.store_by_rank(0)
        self.check_all()
        self.rank.kill()
        self.scheduler.close()
        self.other.close()
        del self.scheduler, self.other

        def nothing_held():
            with urllib.request.urlopen(self.page + "/status", timeout=10) as answer:
                status = json.load(answer)
            host = next(tier for tier in status["tiers"] if tier["name"] == "host")
            return host["quarantined_bytes"] == 0 and not status.get("engines")
        worlds.until(nothing_held, "the end of what was held")
        print(self.rank.said, self.counts, file=sys.stderr)
        for what in ("stored", "checked", "killed"):
            self.assertGreater(self.counts[what], 0, what)


if __name__ == "__main__":
    if sys.argv[1] == "rank":
        DEVICE = None if sys.argv[3] == "-" else int(sys.argv[3])
        LIBRARY = sys.argv[4]
        rank_main(sys.argv[2])
    else:
        PROGRAM = os.path.abspath(sys.argv[1])
        KILLS = int(sys.argv[2]) if len(sys.argv) > 2 else KILLS
        if len(sys.argv) > 4:
            DEVICE, LIBRARY = int(sys.argv[3]), os.path.abspath(sys.argv[4])
        unittest.main(argv=sys.argv[:1])
