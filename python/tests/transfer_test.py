#!/usr/bin/env python3
"""Goal: an engine's pages go into blocks and come back, whole or by ranks, and what does not fit is refused by name."""

import unittest

import numpy
import worlds

import tiercel
from tiercel import Axis, EngineTensor, OpaqueRuns, StateKind, Transfer

LAYERS, HEADS, PAGES, PAGE_TOKENS, WIDTH = 3, 4, 12, 8, 32
BLOCK_TOKENS = 2 * PAGE_TOKENS
BLOCKS = 3
WAIT_S = 30


def layout():
    runs = [tiercel.Run(layer=layer, kind=StateKind.KEY_VALUE, heads=HEADS, bytes_per_head_token=WIDTH)
            for layer in range(LAYERS)]
    return tiercel.Layout([tiercel.Group(runs)])


def open_session(cache, **more):
    return cache.open_session(tiercel.ModelIdentity(name="paged", kv_dtype="f16"), layout(), BLOCK_TOKENS, **more)


class Engine:
    """Tensors of one rank: page, token, head, bytes; or page, head, token, bytes (`hnd`)."""

    def __init__(self, heads=range(HEADS), hnd=False, fill=None):
        self.heads, self.hnd = heads, hnd
        shape = (PAGES, len(heads), PAGE_TOKENS, WIDTH) if hnd else (PAGES, PAGE_TOKENS, len(heads), WIDTH)
        self.layers = [numpy.zeros(shape, numpy.uint8) for _ in range(LAYERS)]
        if fill is not None:
            random = numpy.random.default_rng(fill)
            for layer in range(LAYERS):
                whole = random.integers(0, 256, (PAGES, HEADS, PAGE_TOKENS, WIDTH), numpy.uint8)
                self.layer(layer)[:] = whole[:, list(heads)]

    def layer(self, layer):
        """As page, head, token, bytes."""
        return self.layers[layer] if self.hnd else self.layers[layer].transpose(0, 2, 1, 3)

    def tensors(self):
        for number in range(LAYERS):
            view = self.layer(number)
            axes = [(axis, size, stride) for axis, size, stride
                    in zip((Axis.PAGE, Axis.HEAD, Axis.TOKEN, Axis.INNER), view.shape, view.strides, strict=True)]
            yield EngineTensor(name=f"layer {number}", address=view.ctypes.data, storage_bytes=view.nbytes, axes=axes,
                               first_layer=number, first_head=self.heads[0])


class Transfers(unittest.TestCase):
    def setUp(self):
        self.cache = self.enterContext(worlds.open_cache())
        self.session = open_session(self.cache)
        self.chain = tiercel.BlockChain(self.session.space(), range(BLOCKS * BLOCK_TOKENS))
        self.pages = [5, 0, 11, 2, 7, 3]

    def transfer(self, engine, session=None, **more):
        return self.enterContext(Transfer.open(session or self.session, list(engine.tensors()), **more))

    def ended_well(self, copy):
        self.assertTrue(copy.wait(WAIT_S))
        self.assertEqual((copy.done, copy.error), (True, None))

    def store(self, engine):
        with self.session.reserve(self.chain, 0) as room:
            copy = self.transfer(engine).store(room, range(BLOCKS), self.pages)
            self.ended_well(copy)
            self.assertEqual(copy.bytes, BLOCKS * self.session.block_bytes)
            self.assertEqual(room.commit_all().blocks, BLOCKS)

    def same(self, engine, pages, other, other_pages):
        for layer in range(LAYERS):
            numpy.testing.assert_array_equal(other.layer(layer)[list(other_pages)], engine.layer(layer)[list(pages)])

    def test_without_a_gpu_nothing_is_calibrated(self):
        with self.assertRaisesRegex(tiercel.UnsupportedError, "/nowhere/libtiercel_cuda.so"):
            tiercel.calibrate_gpu(0, library="/nowhere/libtiercel_cuda.so")
        self.assertEqual(self.transfer(Engine()).choice(), "")

    def test_layers_come_one_range_after_another(self):
        engine, other = Engine(fill=4), Engine(hnd=True)
        self.store(engine)
        back = self.transfer(other)
        load = self.session.load(self.chain, BLOCKS, WAIT_S)
        pages = [1, 2, 3, 4, 6, 8]
        copy = back.load(load, pages, layers=(1, 2))
        self.ended_well(copy)
        self.assertEqual(copy.bytes, BLOCKS * self.session.block_bytes // LAYERS)
        numpy.testing.assert_array_equal(other.layer(1)[pages], engine.layer(1)[self.pages])
        self.assertFalse(other.layer(0).any() or other.layer(2).any(), "other layers were touched")
        self.ended_well(back.load(load, pages, layers=(0, 1)))
        self.ended_well(back.load(load, pages, layers=(2, 99)))
        self.same(engine, self.pages, other, pages)
        for layers in ((3, 4), (2, 2), (2, 1)):
            with self.assertRaisesRegex(tiercel.InvalidArgumentError, f"layers {layers[0]} to {layers[1]}"):
                back.load(load, pages, layers=layers)

    def test_pages_come_back_in_another_order_and_layout(self):
        engine, other = Engine(fill=1), Engine(hnd=True)
        self.store(engine)
        loads = self.transfer(other)
        self.assertEqual((loads.pages_per_block, loads.part_bytes), (2, self.session.block_bytes))
        to = numpy.array([1, 4, 9, 8, 0, 6])
        with self.session.load(self.chain, BLOCKS, worlds.LOAD_S) as load:
            self.ended_well(loads.load(load, to))
        self.same(engine, self.pages, other, to)
        self.assertEqual(worlds.pinned(self.cache), worlds.NOTHING)

    def test_a_part_of_a_load(self):
        engine, other = Engine(fill=2), Engine()
        self.store(engine)
        load = self.session.load(self.chain, BLOCKS, worlds.LOAD_S)
        loads = self.transfer(other)
        self.ended_well(loads.load(load, [1, 2], first=2))
        self.same(engine, self.pages[4:], other, [1, 2])
        self.assertEqual([int(layer[[0, 3, 4]].max()) for layer in other.layers], [0] * LAYERS)
        with self.assertRaisesRegex(tiercel.InvalidArgumentError, "pages: of 2 blocks from block 2 on"):
            loads.load(load, [0, 1, 2, 3], first=2)

    def test_ranks_store_their_heads(self):
        ranks = [Engine(range(0, 1), fill=3), Engine(range(1, 4), fill=3)]
        scheduler = open_session(self.cache, group=tiercel.SessionGroup("ranks", 3, 0))
        members = [open_session(self.cache, group=tiercel.SessionGroup("ranks", 3, 1 + rank)) for rank in range(2)]
        with scheduler.reserve(self.chain, 0) as room:
            for engine, member in zip(ranks, members, strict=True):
                self.assertEqual(room.commit_all().blocks, 0)
                self.ended_well(self.transfer(engine, member).store(room.id, range(BLOCKS), self.pages))
                member.report(room.id, range(BLOCKS))
            self.assertEqual(room.commit_all().blocks, BLOCKS)
        other = Engine()
        same_chain = tiercel.BlockChain.from_hashes(self.session.space(), self.chain.hash_bytes())
        self.assertEqual(same_chain[2], self.chain[2])
        self.assertEqual(self.chain.hash_bytes(1, 1), self.chain[1])
        with self.session.load(same_chain, BLOCKS, worlds.LOAD_S) as load:
            self.ended_well(self.transfer(other).load(load, self.pages))
        for engine in ranks:
            for layer in range(LAYERS):
                numpy.testing.assert_array_equal(other.layer(layer)[self.pages][:, list(engine.heads)],
                                                 engine.layer(layer)[self.pages])

    def test_what_does_not_fit_is_named(self):
        engine = Engine(fill=4)
        tensors = list(engine.tensors())
        for arguments, text in [({"max_copies": 0}, "max_copies is 0"), ({"threads": 0}, "threads is 0"),
                                ({"device": -3}, "device is -3"),
                                ({"store_bytes_per_second": float("nan")}, "store_bytes_per_second")]:
            with self.assertRaisesRegex(tiercel.InvalidArgumentError, text):
                Transfer.open(self.session, tensors, **arguments)
        with self.assertRaises(tiercel.InvalidArgumentError):
            Transfer.open(self.session, tensors[:2])
        with self.assertRaisesRegex(tiercel.UnsupportedError, "no GPU library"):
            Transfer.open(self.session, tensors, device=0, library="/there/is/none.so")
        part = Transfer.open(self.session, tensors[1:], first_layer=1, opaque=OpaqueRuns.LEFT)
        self.assertEqual(part.part_bytes, self.session.block_bytes * 2 // 3)
        self.store(engine)
        load = self.session.load(self.chain, BLOCKS, worlds.LOAD_S)
        with self.transfer(engine) as loads:
            for pages in ([0, 1, 2], [0, 1, 2, 3, 4, PAGES], [0, 1, 2, 3, 4, -1], [0] * 8):
                with self.assertRaises(tiercel.InvalidArgumentError):
                    loads.load(load, pages)
            with self.assertRaisesRegex(tiercel.InvalidArgumentError, "after_event"):
                loads.load(load, self.pages, after_event=1)
            with self.assertRaisesRegex(tiercel.InvalidArgumentError, "ahead"):
                loads.load(load, self.pages, ahead=True)
            with self.assertRaisesRegex(tiercel.InvalidArgumentError, "not submitted ahead"):
                loads.wait_in_stream(1, loads.load(load, self.pages))
        with self.assertRaises(tiercel.ClosedError):
            loads.load(load, self.pages)
        with self.assertRaisesRegex(tiercel.InvalidArgumentError, "32 each"):
            tiercel.BlockChain.from_hashes(self.session.space(), b"short")


if __name__ == "__main__":
    unittest.main()
