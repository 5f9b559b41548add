#!/usr/bin/env python3
"""transfer_speed.py PROGRAM [BLOCKS] [DEVICE] [FLAG OF tiercel serve ...]: how fast an engine's pages and the blocks of a service change places.

One rank with the tensors of an 8B model (36 layers, 8 heads, 16 tokens a block: 2.25 MiB) on CUDA device DEVICE, a
service with the flags; BLOCKS blocks are stored and loaded, several times. Beside it, in the same process: contiguous
copies of the same bytes between pinned memory and the GPU. Prints GB/s and the share of the contiguous copy."""

import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time

import tiercel
from tiercel import Axis, EngineTensor, StateKind, Transfer

LAYERS, HEADS, TOKENS, WIDTH = 36, 8, 16, 512
PAGE = HEADS * TOKENS * WIDTH
ROUNDS = 5

cuda = ctypes.CDLL("libcudart.so")


def call(name, *arguments):
    error = getattr(cuda, name)(*arguments)
    if error:
        raise RuntimeError(f"{name}: CUDA error {error}")


def allocate(name, bytes_):
    place = ctypes.c_void_p()
    call(name, ctypes.byref(place), ctypes.c_size_t(bytes_))
    return place.value


def best(action):
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main():
    program, blocks, device = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    flags = sys.argv[4:]
    call("cudaSetDevice", device)
    bytes_ = blocks * LAYERS * PAGE
    gpu, pinned = allocate("cudaMalloc", bytes_), allocate("cudaMallocHost", bytes_)
    limit = {kind: best(lambda kind=kind, to=to, origin=origin: call(
        "cudaMemcpy", ctypes.c_void_p(to), ctypes.c_void_p(origin), ctypes.c_size_t(bytes_), kind))
        for kind, to, origin in ((1, gpu, pinned), (2, pinned, gpu))}
    call("cudaFreeHost", ctypes.c_void_p(pinned))

    folder = tempfile.mkdtemp()
    socket = os.path.join(folder, "s")
    service = subprocess.Popen([program, "serve", "--service-socket", socket, "--http-listen", "", "--metrics-listen", "",
                                "--host-capacity", str(-(-bytes_ * 5 // 4 // (64 << 20)) * (64 << 20)), *flags],
                               stdout=subprocess.DEVNULL)
    try:
        while not os.path.exists(socket):
            time.sleep(0.05)
        runs = [tiercel.Run(layer=n, kind=StateKind.KEY_VALUE, heads=HEADS, bytes_per_head_token=WIDTH) for n in range(LAYERS)]
        client = tiercel.Client.connect(socket, call_deadline_s=30)
        session = client.open_session(tiercel.ModelIdentity(name="speed", kv_dtype="bf16"),
                                      tiercel.Layout([tiercel.Group(runs)]), TOKENS)
        axes = [(Axis.PAGE, blocks, PAGE), (Axis.HEAD, HEADS, TOKENS * WIDTH), (Axis.TOKEN, TOKENS, WIDTH), (Axis.INNER, WIDTH, 1)]
        tensors = [EngineTensor(name=f"layer {n}", address=gpu + n * blocks * PAGE, storage_bytes=blocks * PAGE, axes=axes,
                                first_layer=n) for n in range(LAYERS)]
        transfer = Transfer.open(session, tensors, device=device, store_bytes_per_second=0)
        print(transfer.describe(), flush=True)
        chain = tiercel.BlockChain(session.space(), range(blocks * TOKENS))
        start = time.perf_counter()
        while transfer.registered_bytes < bytes_ and time.perf_counter() < start + 60:
            time.sleep(0.05)
        print(f"arena: {transfer.registered_bytes >> 20} MiB registered {time.perf_counter() - start:.2f} s after opening", flush=True)

        with session.reserve(chain, 0) as room:
            def store():
                copy = transfer.store(room, range(blocks), range(blocks))
                assert copy.wait(60) and copy.error is None, copy.error
            for name in ("first store", "stores"):
                took = best(store) if name == "stores" else _once(store)
                print(f"{name:24} {bytes_ / took / 1e9:6.2f} GB/s, {limit[2] / took:6.1%} of contiguous ({bytes_ / limit[2] / 1e9:.2f})", flush=True)
            print("committed", room.commit_all().blocks)

        for ahead in (False, True):
            submits, alls = [], []

            def load(ahead=ahead, submits=submits, alls=alls):
                begin = time.perf_counter()
                held = session.load(chain, blocks, 30.0)
                assert len(held.wait()) == blocks
                ready = time.perf_counter()
                copy = transfer.load(held, range(blocks), ahead=ahead)
                if ahead:
                    transfer.wait_in_stream(0, copy)
                submits.append((ready - begin, time.perf_counter() - ready))
                assert copy.wait(60) and copy.error is None, copy.error
                alls.append(time.perf_counter() - ready)

            best(load)
            took = statistics.median(alls)
            print(f"{'loads, ahead' if ahead else 'loads':24} {bytes_ / took / 1e9:6.2f} GB/s, {limit[1] / took:6.1%} of contiguous "
                  f"({bytes_ / limit[1] / 1e9:.2f}); session.load {statistics.median(s[0] for s in submits) * 1e3:.2f} ms, "
                  f"submit {statistics.median(s[1] for s in submits) * 1e3:.2f} ms", flush=True)
        transfer.close()
    finally:
        service.kill()
        service.wait()


def _once(action):
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
