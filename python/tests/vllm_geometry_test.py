#!/usr/bin/env python3
"""Goal: KV of whatever shape, order and number of ranks gets into blocks and out again, byte for byte; what is not understood is
refused by name. Without vLLM: arrays stand for its tensors."""

import unittest

import worlds

import numpy
import tiercel
from tiercel.vllm import geometry
from tiercel.vllm.geometry import RankGeometry, UnsupportedLayoutError

LAYERS, HEADS, TOKENS, SIZE, BLOCKS = 2, 4, 16, 32, 12  # SIZE: items of K and V of one head and token


def packed(blocks, tokens, heads, size):
    return blocks, heads, tokens, 2 * size


def apart(blocks, tokens, heads, size):
    return blocks, 2, tokens, heads, size


def apart_first(blocks, tokens, heads, size):
    return 2, blocks, tokens, heads, size


class Rank:
    """Tensors of one rank, of random bytes or zeros."""

    def __init__(self, rank, ranks, rule=packed, order=None, page_tokens=TOKENS, heads=HEADS, seed=None):
        own = max(1, heads // ranks)
        self.factor = TOKENS // page_tokens
        self.kv, tensors = [], []
        for layer in range(LAYERS):
            shape = rule(BLOCKS * self.factor, page_tokens, own, SIZE // 2)
            physical = order or range(len(shape))
            memory = numpy.zeros([shape[i] for i in physical], dtype=numpy.uint16)
            if seed is not None:
                memory[:] = numpy.random.default_rng(seed + layer).integers(0, 1 << 16, memory.shape, dtype=numpy.uint16)
            tensor = memory.transpose(numpy.argsort(list(physical)))
            axes = geometry.find_axes(rule, tensor.shape, BLOCKS * self.factor, page_tokens, own, SIZE // 2)
            strides = [stride // 2 for stride in tensor.strides]
            tensors.append(geometry.tensor_geometry(f"model.layers.{layer}.attn", axes, tensor.shape, strides, 2, memory.ctypes.data, memory.nbytes))
            self.kv.append((tensor, axes))
        self.geometry = RankGeometry(rank, ranks, heads, TOKENS, "test", tuple(tensors))

    def canonical(self, blocks):
        """[block][layer][head][token] of these blocks, K and V side by side."""
        pages = geometry.pages_of(blocks, self.factor)
        whole = []
        for tensor, axes in self.kv:
            place = {axis: i for i, axis in axes.items()}
            names = ["PAGE", "HEAD", "TOKEN", *(["KV"] if "KV" in place else []), "INNER"]
            view = tensor.transpose([place[name] for name in names])[pages]
            view = view.reshape(len(blocks), self.factor, view.shape[1], view.shape[2], SIZE).transpose(0, 2, 1, 3, 4)
            whole.append(view.reshape(len(blocks), view.shape[1], TOKENS, SIZE))
        return numpy.stack(whole, axis=1)


class LogicalRank(Rank):
    """As vLLM 0.32 has it: all layers in one memory, in the order of their axes (L, B, H, N) in `order`; seen the same way."""

    def __init__(self, rank, ranks, order, seed=None):
        own, self.factor, self.kv, tensors = max(1, HEADS // ranks), 1, [], []
        shape = (LAYERS, BLOCKS, own, TOKENS, SIZE)
        physical = [*("LBHN".index(axis) for axis in order), 4]
        memory = numpy.zeros([shape[i] for i in physical], dtype=numpy.uint16)
        if seed is not None:
            memory[:] = numpy.random.default_rng(seed).integers(0, 1 << 16, memory.shape, dtype=numpy.uint16)
        for layer, tensor in enumerate(memory.transpose(numpy.argsort(physical))):
            axes = geometry.logical_axes(tensor.shape, own)
            address = tensor.ctypes.data
            tensors.append(geometry.tensor_geometry(f"model.layers.{layer}.attn", axes, tensor.shape, [stride // 2 for stride in tensor.strides], 2, address,
                                                    memory.nbytes - (address - memory.ctypes.data)))
            self.kv.append((tensor, axes))
        self.geometry = RankGeometry(rank, ranks, HEADS, TOKENS, "test", tuple(tensors))


class World:
    """One engine: its scheduler's session, and a session and a transfer for each rank."""

    def __init__(self, test, cache, ranks, engine):
        plan = geometry.plan_layout([rank.geometry for rank in ranks])
        model = tiercel.ModelIdentity(name="test", kv_dtype="bf16")

        def open_member(member):
            group = tiercel.SessionGroup(engine, members=1 + len(ranks), member=member)
            return test.enterContext(cache.open_session(model, plan.layout(), plan.block_tokens, group))

        self.ranks, self.scheduler = ranks, open_member(0)
        self.sessions = [open_member(1 + i) for i in range(len(ranks))]
        self.transfers = [tiercel.Transfer.open(session, geometry.engine_tensors(rank.geometry)) for session, rank in zip(self.sessions, ranks)]
        for transfer in self.transfers:
            test.addCleanup(transfer.close)

    def chain(self, blocks):
        return tiercel.BlockChain(self.scheduler.space(), range(blocks * TOKENS))

    def store(self, blocks):
        with self.scheduler.reserve(self.chain(len(blocks)), 0) as room:
            places = list(range(len(blocks)))
            for rank, session, transfer in zip(self.ranks, self.sessions, self.transfers):
                if rank.geometry.stores:
                    copy = transfer.store(room.id, places, geometry.pages_of(blocks, transfer.pages_per_block))
                    assert copy.wait(worlds.LOAD_S) and copy.error is None
                session.report(room.id, places)
            return room.commit_all().blocks

    def load(self, blocks):
        hashes = self.chain(len(blocks)).hash_bytes()
        for session, transfer in zip(self.sessions, self.transfers):
            chain = tiercel.BlockChain.from_hashes(session.space(), hashes)
            load = session.load(chain, len(chain), worlds.LOAD_S)
            copy = transfer.load(load, geometry.pages_of(blocks, transfer.pages_per_block))
            assert copy.wait(worlds.LOAD_S) and copy.error is None


class Copies(unittest.TestCase):
    def share(self, storing, loading):
        """What these ranks store, those load."""
        cache = self.enterContext(worlds.open_cache())
        first, second = World(self, cache, storing, "a"), World(self, cache, loading, "b")
        source, target = [7, 2, 9], [0, 11, 5]
        self.assertEqual(first.store(source), 3)
        second.load(target)
        self.assertTrue((self.whole(loading, target) == self.whole(storing, source)).all())
        others = [block for block in range(BLOCKS) if block not in target]
        self.assertFalse(any(rank.canonical(others).any() for rank in loading))

    def whole(self, ranks, blocks):
        heads = {}
        for rank in ranks:
            part = rank.canonical(blocks)
            for i in range(part.shape[2]):
                number = rank.geometry.first_head + i
                if number in heads:
                    self.assertTrue((heads[number] == part[:, :, i]).all(), f"head {number} differs between ranks")
                heads[number] = part[:, :, i]
        return numpy.stack([heads[i] for i in sorted(heads)])

    def ranks(self, count, seed=None, **more):
        # Ranks with the same heads have the same bytes of them, as in an engine.
        return [Rank(i, count, seed=None if seed is None else seed + i * HEADS // count * 100, **more) for i in range(count)]

    def test_every_number_of_ranks_shares_with_every_other(self):
        for storing in (1, 2, 4, 8):
            for loading in (1, 2, 4, 8):
                with self.subTest(storing=storing, loading=loading):
                    self.share(self.ranks(storing, seed=storing), self.ranks(loading))

    def test_orders_in_memory_share(self):
        by_token = [0, 2, 1, 3]
        self.share(self.ranks(2, seed=1, order=by_token), self.ranks(1))
        self.share(self.ranks(1, seed=2), self.ranks(2, order=by_token))

    def test_k_and_v_apart(self):
        self.share(self.ranks(2, seed=3, rule=apart), self.ranks(1, rule=apart_first))

    def test_pages_smaller_than_blocks(self):
        self.share(self.ranks(2, seed=4, page_tokens=8, order=[0, 2, 1, 3]), self.ranks(2, page_tokens=8))

    def test_tensors_of_one_shape_whatever_the_order_in_memory(self):
        orders = ("LBHN", "LBNH", "LHBN", "BLHN", "BLNH", "BHLN")
        for storing, loading in zip(orders, orders[1:] + orders[:1]):
            with self.subTest(storing=storing, loading=loading):
                self.share([LogicalRank(i, 2, storing, seed=10 + i) for i in range(2)], [LogicalRank(0, 1, loading)])
        self.share([LogicalRank(0, 1, "BLHN", seed=20)], self.ranks(4))


class Ranks(unittest.TestCase):
    def test_which_heads_and_who_stores(self):
        expected = {1: ([0], [True]), 2: ([0, 2], [True] * 2), 4: ([0, 1, 2, 3], [True] * 4),
                    8: ([0, 0, 1, 1, 2, 2, 3, 3], [True, False] * 4), 16: ([i // 4 for i in range(16)], [i % 4 == 0 for i in range(16)])}
        for count, (first, stores) in expected.items():
            ranks = [Rank(i, count).geometry for i in range(count)]
            self.assertEqual(([rank.first_head for rank in ranks], [rank.stores for rank in ranks]), (first, stores), count)


class Refusals(unittest.TestCase):
    def refused(self, pattern, call, *arguments):
        with self.assertRaisesRegex(UnsupportedLayoutError, pattern):
            call(*arguments)

    def test_shapes(self):
        self.refused("attention backend says", geometry.find_axes, packed, (9, 2, 16, 8, 3), 9, 16, 2, 4)
        self.refused("follow the TOKEN axis", geometry.find_axes, lambda b, t, h, s: (b, h, 64, s), (9, 2, 64, 8), 9, 16, 2, 8)
        self.refused("follow the INNER axis", geometry.find_axes, lambda b, t, h, s: (b, t, h * s, 2), (9, 16, 64, 2), 9, 16, 8, 8)
        self.refused("dimension 1 is none", geometry.find_axes, lambda b, t, h, s: (b, 3, t, h, s), (9, 3, 16, 2, 8), 9, 16, 2, 8)
        self.refused(r"must be pages, 2 heads, tokens", geometry.logical_axes, (9, 16, 2, 8), 2)
        self.refused(r"must be pages, 2 heads, tokens", geometry.logical_axes, (2, 9, 2, 16, 8), 2)
        axes = geometry.find_axes(packed, packed(9, 16, 2, 4), 9, 16, 2, 4)
        self.refused("are 2 elements apart", geometry.tensor_geometry, "layers.0", axes, (9, 2, 16, 8), (512, 256, 16, 2), 2, 4096, 9000)

    def test_names(self):
        self.assertEqual(geometry.layer_number("model.layers.17.self_attn.attn"), 17)
        for name in ("model.attn", "model.layers.1.experts.2.attn"):
            self.refused("the number of its layer", geometry.layer_number, name)

    def test_ranks_that_do_not_agree(self):
        pair = [Rank(0, 2).geometry, Rank(1, 2).geometry]
        geometry.plan_layout(pair)
        self.refused(r"ranks \[0\] is described, of 2", geometry.plan_layout, pair[:1])
        self.refused("different KV", geometry.plan_layout, [pair[0], Rank(1, 2, page_tokens=8).geometry])
        self.refused("do not divide", geometry.plan_layout, [Rank(i, 3).geometry for i in range(3)])
        self.refused(r"has 4 KV heads; it must be 2", geometry.plan_layout,
                     [RankGeometry(i, 2, HEADS, TOKENS, "test", Rank(0, 1).geometry.tensors) for i in range(2)])


if __name__ == "__main__":
    unittest.main()
