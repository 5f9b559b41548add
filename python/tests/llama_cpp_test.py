#!/usr/bin/env python3
"""llama_cpp_test.py MODEL: TiercelCache under the real llama-cpp-python with a small real model.

Goal: a prompt that comes back computes only what is new, with the tokens that it has without a cache; after a restart
it comes from disk; and a state of another model, or of a prompt that the tokens do not describe, is never given."""

import sys
import unittest

import worlds

import llama_cpp
import numpy as np
import tiercel
from llama_cpp.llama import LlamaState
from tiercel.llama_cpp import TiercelCache, identity_of, weight_files

MODEL = ""
TEXT = "The quick brown fox jumps over the lazy dog, and then it goes home to sleep. " * 12


def model(**options):
    return llama_cpp.Llama(MODEL, **{"n_ctx": 512, "n_threads": 2, "verbose": False, "seed": 1} | options)


class Counting:
    """A model that counts the tokens that it computes."""

    def __init__(self, **options):
        self.llm = model(**options)
        self.computed = 0
        plain = self.llm.eval

        def counted(tokens):
            self.computed += len(tokens)
            return plain(tokens)

        self.llm.eval = counted

    def ask(self, text):
        """Text, tokens computed."""
        self.computed = 0
        answer = self.llm(text, max_tokens=6, temperature=0.0)["choices"][0]["text"]
        return answer, self.computed


class RealModel(unittest.TestCase):
    def test_a_prompt_comes_back_from_ram_and_after_a_restart_from_disk(self):
        disk = {"directories": [worlds.folder(self)], "capacity": "256MiB"}
        host = {"capacity": "256MiB", "prefault": False}
        chat = Counting()
        expected, all_tokens = chat.ask(TEXT)
        with TiercelCache(chat.llm, host=host, disk=disk, block_tokens=16) as cache:
            chat.llm.set_cache(cache)
            chat.llm.reset()
            self.assertEqual(chat.ask(TEXT), (expected, all_tokens), "nothing is known yet")
            chat.ask("Something else altogether, which takes the context over. " * 4)
            again, computed = chat.ask(TEXT)
            self.assertEqual(again, expected)
            self.assertLess(computed, all_tokens / 4)
            longer, computed = chat.ask(TEXT + "What happened then?")
            self.assertLess(computed, all_tokens / 4)
            self.assertGreater(cache.cache_size, 0)
        other = Counting()
        with TiercelCache(other.llm, host=host, disk=disk, block_tokens=16) as cache:
            worlds.until(lambda: other.llm.tokenize(TEXT.encode()) in cache, "the disk is indexed")
            other.llm.set_cache(cache)
            again, computed = other.ask(TEXT)
            self.assertEqual(again, expected)
            self.assertLess(computed, all_tokens / 4)
            fresh = Counting()
            self.assertEqual(other.ask(TEXT + "What happened then?")[0], longer)
            del fresh

    def test_other_parameters_share_nothing(self):
        one, two = model(), model(type_k=8, flash_attn=True)
        with worlds.open_cache("128MiB") as cache:
            first = TiercelCache(one, cache=cache, block_tokens=16)
            one.set_cache(first)
            one(TEXT, max_tokens=1)
            tokens = one.tokenize(TEXT.encode())
            self.assertIn(tokens, first)
            self.assertIn(tokens, TiercelCache(model(n_threads=1), cache=cache, block_tokens=16))
            self.assertNotIn(tokens, TiercelCache(two, cache=cache, block_tokens=16))

    def test_all_logits_are_kept(self):
        llm = model(logits_all=True, n_ctx=128)
        with TiercelCache(llm, host={"capacity": "256MiB", "prefault": False}, block_tokens=8) as cache:
            llm.set_cache(cache)
            llm("One two three four five six seven eight nine ten", max_tokens=1, logprobs=2)
            saved = llm.save_state()
            state = cache[saved.input_ids[: saved.n_tokens].tolist()]
            self.assertTrue(np.array_equal(state.scores, saved.scores))
            self.assertEqual(state.llama_state, saved.llama_state)


class Imagined:
    """What TiercelCache asks of a model."""

    def __init__(self):
        self.chat_handler, self._logits_all = None, False


def state_of(tokens, size, fill=b"s"):
    ids = np.full(4096, 7, dtype=np.intc)
    ids[: len(tokens)] = tokens
    return LlamaState(input_ids=ids, scores=np.zeros((len(tokens), 10), dtype=np.single), n_tokens=len(tokens),
                      llama_state=(fill * size)[:size], llama_state_size=size, seed=3)


class States(unittest.TestCase):
    """The rules of storing and finding, with states that no model made."""

    def setUp(self):
        self.llm = Imagined()
        self.tiers = self.enterContext(worlds.open_cache("64MiB"))
        self.cache = TiercelCache(self.llm, cache=self.tiers, model=tiercel.ModelIdentity(name="imagined"),
                                  block_tokens=16, chunk_bytes=1 << 18)

    def put(self, tokens, size=1000, fill=b"s"):
        self.cache[tokens] = state_of(tokens, size, fill)

    def test_the_state_comes_back_whole(self):
        tokens = list(range(100, 150))
        for size in (1, (1 << 18) - 1, 1 << 18, (1 << 20) + 5):
            with self.subTest(size=size):
                tokens = [token + 1000 for token in tokens]
                self.put(tokens, size, bytes(range(251)))
                state = self.cache[tokens]
                self.assertEqual(state.llama_state, state_of(tokens, size, bytes(range(251))).llama_state)
                self.assertEqual((state.n_tokens, state.seed), (50, 3))
                self.assertEqual((state.llama_state_size, len(state.input_ids)), (size, 4096))
                self.assertEqual(state.scores.shape, (50, 10))
                self.assertEqual(state.input_ids[:50].tolist(), tokens)
        self.assertEqual(worlds.pinned(self.tiers), worlds.NOTHING)

    def test_the_longest_common_prefix_wins(self):
        base = list(range(64))
        self.put(base[:40], fill=b"a")
        self.put(base[:32] + list(range(500, 532)), fill=b"b")
        self.put(base + list(range(900, 950)), fill=b"c")
        self.assertEqual(self.cache[base + [1] * 64].llama_state[:1], b"c")
        self.assertEqual(self.cache[base[:32] + list(range(500, 516))].llama_state[:1], b"b")
        self.assertIn(self.cache[base[:20] + [3] * 99].llama_state[:1], b"abc")
        for tokens in ([5] + base, base[:15], []):
            self.assertNotIn(tokens, self.cache)
            with self.assertRaises(KeyError):
                self.cache[tokens]

    def test_a_state_that_was_evicted_is_a_miss_and_its_prefix_heals(self):
        system = list(range(64))
        self.put(system + [1] * 64, fill=b"a")
        self.cache._states.drop(self.cache._states.space())
        self.assertNotIn(system + [1] * 64, self.cache)
        with self.assertRaises(KeyError):
            self.cache[system + [1] * 64]
        self.put(system + [2] * 64, fill=b"b")
        self.assertEqual(self.cache[system + [3] * 64].llama_state[:1], b"b")

    def test_more_than_there_is_room_for(self):
        for i in range(40):
            self.put([i * 100 + 1] * 64, 4 << 20)
        self.put([7777] * 64, 100 << 20)  # can never fit
        self.assertNotIn([7777] * 64, self.cache)
        self.put([5555] * 64, 4 << 20)
        self.assertEqual(len(self.cache[[5555] * 64].llama_state), 4 << 20)
        self.assertEqual(worlds.pinned(self.tiers), worlds.NOTHING)

    def test_the_same_again_is_stored_once(self):
        self.put(list(range(64)))
        before = self.tiers.stats().tiers[0].stored_blocks
        self.put(list(range(64)))
        self.assertEqual(self.tiers.stats().tiers[0].stored_blocks, before)

    def test_what_tokens_do_not_describe_is_not_kept(self):
        tokens = list(range(64))
        self.put([-1 if token == 9 else token for token in tokens])
        self.llm.chat_handler = type("Images", (), {"clip_model_path": "x"})()
        self.put(tokens)
        self.llm.chat_handler = None
        self.assertNotIn(tokens, self.cache)
        self.assertEqual(self.tiers.stats().tiers[0].stored_blocks, 0)

    def test_a_closed_cache_costs_hits_and_no_completion(self):
        self.put(list(range(64)))
        self.tiers.close()
        with self.assertLogs("tiercel", "WARNING") as logged:
            for _ in range(3):
                with self.assertRaises(KeyError):
                    self.cache[list(range(64))]
                self.put(list(range(64)))
                self.assertNotIn([1] * 64, self.cache)
        self.assertEqual(len(logged.output), 1)

    def test_settings(self):
        with self.assertRaisesRegex(ValueError, "block_tokens"):
            TiercelCache(self.llm, cache=self.tiers, model=tiercel.ModelIdentity(), block_tokens=4)
        with self.assertRaisesRegex(ValueError, "cache: is open"):
            TiercelCache(self.llm, cache=self.tiers, model=tiercel.ModelIdentity(), host={})
        self.assertEqual(weight_files("/a/m-00002-of-00003.gguf"), [f"/a/m-0000{i}-of-00003.gguf" for i in (1, 2, 3)])
        self.assertEqual(weight_files("/a/m.gguf"), ["/a/m.gguf"])
        self.assertTrue(callable(identity_of))


if __name__ == "__main__":
    MODEL = sys.argv.pop(1)
    unittest.main()
