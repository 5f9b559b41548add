#!/usr/bin/env python3
"""Goal: token ids of whatever form give the one chain that docs/formats.md specifies, or an error that
names the place."""

import array
import hashlib
import struct
import unittest

import worlds

import numpy
import tiercel


class Chains(unittest.TestCase):
    def setUp(self):
        self.cache = self.enterContext(worlds.open_cache())
        self.session = worlds.open_session(self.cache)
        self.space = self.session.space()

    def hashes(self, tokens, **more):
        return list(tiercel.BlockChain(self.space, tokens, **more))

    def test_every_form_of_tokens_gives_the_same_chain(self):
        ids = [i * 37 % 32000 for i in range(100)]
        expected = self.hashes(ids)
        self.assertEqual(len(expected), 6)
        wide = numpy.array([[i, -1] for i in ids], dtype=numpy.int64)
        for form in (tuple(ids), iter(ids), (i for i in ids), array.array("i", ids), array.array("I", ids),
                     array.array("q", ids), array.array("Q", ids), numpy.array(ids, dtype=numpy.int32),
                     numpy.array(ids, dtype=numpy.int64), numpy.array(ids, dtype=numpy.uint32),
                     numpy.array(ids[::-1], dtype=numpy.int32)[::-1], wide[:, 0],
                     memoryview(array.array("i", ids)), numpy.array(ids, dtype=numpy.int32)):
            self.assertEqual(self.hashes(form), expected, type(form))
        self.assertEqual(list(tiercel.hash_blocks(self.space, ids)), expected)
        grown = tiercel.BlockChain(self.space)
        for part in (ids[:7], ids[7:60], numpy.array(ids[60:], dtype=numpy.int32)):
            grown.append(part)
        self.assertEqual((list(grown), grown.tokens), (expected, 100))

    def test_the_hash_is_the_specified_one(self):
        ids = list(range(16))
        chain = tiercel.BlockChain(self.space, ids)
        preimage = self.space.fingerprint + struct.pack("<I16iI", 16, *ids, 0)
        self.assertEqual(chain[0], hashlib.sha256(preimage).digest())

    def test_extra_keys_change_their_block_and_those_after(self):
        plain = self.hashes(range(64))
        keyed = self.hashes(range(64), extra_keys=[tiercel.ExtraKey(b"lora\0digest", 2)])
        self.assertEqual([a == b for a, b in zip(plain, keyed)], [True, True, False, False])
        self.assertEqual(tiercel.ExtraKey(b"a\0b").bytes, b"a\0b")

    def test_what_is_no_token_id_is_named(self):
        for tokens, sentence in (([1, 2**31], r"tokens\[1\]"), ([2**70], r"tokens\[0\]"),
                                 ([-2**31 - 1], r"tokens\[0\]"),
                                 (array.array("q", [1, 2, -2**40]), r"tokens\[2\]"),
                                 (array.array("Q", [2**63]), r"tokens\[0\]"),
                                 (array.array("I", [2**31]), r"tokens\[0\]"),
                                 (b"abcd", "format"), (array.array("d", [1.0]), "format"),
                                 (numpy.array([1, 2], dtype=">i4"), "format"),
                                 (numpy.zeros((2, 2), dtype=numpy.int32), "2 dimensions")):
            with self.subTest(tokens=tokens), self.assertRaisesRegex(tiercel.InvalidArgumentError, sentence):
                self.hashes(tokens)
        for tokens in (3, None, ["a"], [1.5]):
            with self.subTest(tokens=tokens), self.assertRaises(TypeError):
                self.hashes(tokens)

    def test_a_failed_append_adds_nothing(self):
        chain = tiercel.BlockChain(self.space, range(20))
        with self.assertRaises(tiercel.InvalidArgumentError):
            chain.append([1, 2, 2**40])
        self.assertEqual((chain.tokens, len(chain)), (20, 1))

    def test_the_buffer_is_let_go(self):
        tokens = array.array("i", range(32))
        self.hashes(tokens)
        tokens.append(1)  # BufferError if somebody still held it

    def test_places(self):
        chain = tiercel.BlockChain(self.space, range(32))
        self.assertEqual(len(chain[1]), 32)
        for place in (2, 2**62):
            with self.assertRaises(IndexError):
                chain[place]
        self.assertEqual(chain.space.fingerprint, self.space.fingerprint)
        self.assertEqual((self.space.block_tokens, self.space.tenant), (16, "default"))
        self.assertNotEqual(self.session.space("search").fingerprint, self.space.fingerprint)


if __name__ == "__main__":
    unittest.main()
