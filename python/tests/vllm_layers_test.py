#!/usr/bin/env python3
"""Goal: a layer waits for the copy that brings it, once; hooks are relied on only after a step that called all of them, and one that
does not come then is no silent wrong answer."""

import types
import unittest

from tiercel.vllm import layers as layers_module
from tiercel.vllm.layers import LayerWaits, calls_hooks, groups_of

LAYERS = {f"model.layers.{i}.self_attn.attn": i for i in range(8)}
LARGE = 1 << 30


class Groups(unittest.TestCase):
    def test_they_hold_each_layer_once_in_order(self):
        for count in range(1, 100):
            groups = groups_of({str(i): 3 + i for i in range(count)})
            self.assertLessEqual(len(groups), 6)
            self.assertEqual([n for first, end in groups for n in range(first, end)], list(range(3, 3 + count)))

    def test_numbers_may_be_missing(self):
        groups = groups_of({"a": 0, "b": 2, "c": 40, "d": 41, "e": 44, "f": 50, "g": 60})
        self.assertEqual(groups, [(0, 3), (40, 42), (44, 51), (60, 61)])


class Hooks(unittest.TestCase):
    def setUp(self):
        self.waits = LayerWaits(LAYERS)
        self.waited = []

    def step(self, names=LAYERS):
        for name in names:
            self.waits.before(name, self.waited.append)
        self.waits.after_step()

    def test_they_are_trusted_after_a_step_that_called_all(self):
        self.assertEqual(self.waits.ranges(LARGE), [None])
        self.step([])
        self.step(list(LAYERS)[:-1])
        self.step(list(LAYERS)[-1:])
        self.assertEqual(self.waits.ranges(LARGE), [None], "no step has called all")
        self.step()
        self.assertEqual(self.waits.ranges(LARGE), [(0, 2), (2, 4), (4, 6), (6, 8)])
        self.assertEqual(self.waits.ranges(1000), [None], "a small load is one copy")

    def test_each_copy_is_waited_for_before_the_first_layer_that_it_brings(self):
        self.step()
        self.waits.expect(["a", "b", "c", "d"])
        self.waits.expect(["A", "B", "C", "D"])
        at = []
        for name in LAYERS:
            self.waits.before(name, lambda copy, name=name: at.append((copy, LAYERS[name])))
        self.waits.after_step()
        self.assertEqual(at, [("a", 0), ("A", 0), ("b", 2), ("B", 2), ("c", 4), ("C", 4), ("d", 6), ("D", 6)])
        self.step()
        self.assertEqual(self.waited, [], "nothing twice")

    def test_a_layer_that_did_not_ask_is_an_error_and_the_next_step_goes_on(self):
        self.step()
        self.waits.expect(["a", "b", "c", "d"])
        with self.assertRaisesRegex(RuntimeError, "without asking"):
            self.step(list(LAYERS)[:4])
        self.step()

    def test_so_is_one_in_whose_place_a_later_layer_of_its_group_asks(self):
        self.step()
        self.waits.expect(["a", "b", "c", "d"])
        with self.assertRaisesRegex(RuntimeError, r"1 layers .*layers\.4\."):
            self.step([name for name in LAYERS if LAYERS[name] != 4])
        self.assertEqual(self.waited, ["a", "b", "c", "d"])
        self.step()

    def test_other_layers_wait_for_nothing(self):
        self.step()
        self.waits.expect(["a", "b", "c", "d"])
        self.waits.before("a layer without KV of its own", self.waited.append)
        self.assertEqual(self.waited, [])
        self.step()
        self.assertEqual(self.waited, ["a", "b", "c", "d"])


class Contexts(unittest.TestCase):
    @staticmethod
    def context(mode, metadata):
        return types.SimpleNamespace(cudagraph_runtime_mode=types.SimpleNamespace(name=mode), attn_metadata=metadata)

    def test_hooks_are_called_where_layers_run_one_by_one(self):
        self.assertTrue(calls_hooks(self.context("NONE", {"a": 1})))
        self.assertTrue(calls_hooks(self.context("PIECEWISE", {"a": 1})))
        for mode, metadata in (("FULL", {"a": 1}), ("PIECEWISE", None), ("NONE", [{"a": 1}, {"a": 1}]), ("SOMETHING", {"a": 1})):
            self.assertFalse(calls_hooks(self.context(mode, metadata)))
        for strange in (None, object(), types.SimpleNamespace(attn_metadata={})):
            self.assertFalse(calls_hooks(strange))

    def test_the_least_size_is_below_what_a_hit_of_4k_tokens_has(self):
        self.assertLessEqual(layers_module._LEAST_BYTES, 4096 * 36 * 1024)


if __name__ == "__main__":
    unittest.main()
