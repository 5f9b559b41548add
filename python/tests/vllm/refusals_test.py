#!/usr/bin/env python3
"""Goal: what the connector does not do is refused at the start, by the name of the setting; and a load failure is recomputed,
not failed, without a flag for it."""

import types
import unittest

import engines
import torch
from tiercel.vllm.connector import TiercelConnector
from tiercel.vllm.engine import check_supported
from vllm.config import KVTransferConfig
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheGroupSpec, MLAAttentionSpec, SlidingWindowSpec


def spec(kind=FullAttentionSpec, **more):
    return kind(block_size=16, num_kv_heads=2, head_size=64, dtype=torch.bfloat16, **more)


def kv_cache(*specs):
    groups = [KVCacheGroupSpec([f"model.layers.{i}.attn"], one) for i, one in enumerate(specs or (spec(),))]
    return types.SimpleNamespace(kv_cache_groups=groups, num_blocks=8)


def config(extra=None, load_format="auto", model=engines.MODEL, **parallel):
    sizes = {"tensor_parallel_size": 1, "pipeline_parallel_size": 1, "decode_context_parallel_size": 1, "prefill_context_parallel_size": 1}
    return types.SimpleNamespace(
        parallel_config=types.SimpleNamespace(**(sizes | parallel)), speculative_config=None,
        cache_config=types.SimpleNamespace(calculate_kv_scales=False), load_config=types.SimpleNamespace(load_format=load_format),
        model_config=types.SimpleNamespace(model=model, revision=None), scheduler_config=types.SimpleNamespace(max_num_batched_tokens=2048),
        kv_transfer_config=KVTransferConfig(kv_connector="TiercelConnector", kv_connector_module_path="tiercel.vllm", kv_role="kv_both",
                                            kv_connector_extra_config=extra or {}))


class Refusals(unittest.TestCase):
    def refused(self, pattern, configuration, cache):
        with self.assertRaisesRegex(ValueError, pattern):
            check_supported(configuration, cache)

    def test_parallel_forms(self):
        check_supported(config(tensor_parallel_size=4), kv_cache())
        for name in ("pipeline_parallel_size", "decode_context_parallel_size", "prefill_context_parallel_size"):
            self.refused(f"{name}: 2 .* must be 1", config(**{name: 2}), kv_cache())

    def test_kinds_of_kv(self):
        self.refused("SlidingWindowSpec; .* FullAttentionSpec", config(), kv_cache(spec(SlidingWindowSpec, sliding_window=64)))
        self.refused("MLAAttentionSpec", config(), kv_cache(spec(MLAAttentionSpec)))
        self.refused(r"2 groups \(FullAttentionSpec \(1 layers\), SlidingWindowSpec", config(),
                     kv_cache(spec(), spec(SlidingWindowSpec, sliding_window=64)))

    def test_scales_and_drafts(self):
        scales = config()
        scales.cache_config.calculate_kv_scales = True
        self.refused("calculate_kv_scales", scales, kv_cache())
        drafts = config()
        drafts.speculative_config = types.SimpleNamespace(method="eagle3")
        self.refused("speculative_config.method: 'eagle3'", drafts, kv_cache())
        drafts.speculative_config.method = "ngram"
        check_supported(drafts, kv_cache())

    def build(self, configuration):
        return TiercelConnector(configuration, KVConnectorRole.SCHEDULER, kv_cache())

    def test_nothing_must_be_delivered(self):
        self.assertIs(self.build(config()).requires_kv_delivery, False)

    def test_an_unknown_key(self):
        with self.assertRaisesRegex(ValueError, "kv_connector_extra_config.sockett: unknown key; did you mean 'socket'"):
            self.build(config({"sockett": "/x"}))

    def test_weights_without_files_need_a_name(self):
        with self.assertRaisesRegex(ValueError, "weights_id: is needed, because '/nowhere/model'"):
            self.build(config(model="/nowhere/model"))
        self.build(config({"weights_id": "these"}, model="/nowhere/model"))
        self.build(config(load_format="dummy", model="/nowhere/model"))

    def test_the_layout_of_the_engines_own_kv(self):
        for extra, layout in (({}, "HND"), ({"layout": "NHD"}, "NHD"), ({"layout": "HND"}, "HND")):
            self.assertEqual(TiercelConnector.get_required_kvcache_layout(config(extra)), layout)
        with self.assertRaisesRegex(ValueError, 'kv_connector_extra_config.layout: 3 must be "HND" or "NHD"'):
            TiercelConnector.get_required_kvcache_layout(config({"layout": 3}))

    def test_what_vllm_makes_of_it(self):
        from vllm.config import VllmConfig, set_current_vllm_config
        from vllm.distributed.kv_transfer.kv_connector.utils import get_kv_connector_cache_layout

        for layout in ("HND", "NHD"):
            configuration = VllmConfig(kv_transfer_config=config({"layout": layout}).kv_transfer_config)
            with set_current_vllm_config(configuration):
                self.assertEqual(get_kv_connector_cache_layout(), layout)

    def test_a_failed_load_is_recomputed(self):
        configuration = config()
        self.assertEqual(configuration.kv_transfer_config.kv_load_failure_policy, "fail")
        self.build(configuration)
        self.assertEqual(configuration.kv_transfer_config.kv_load_failure_policy, "recompute")


if __name__ == "__main__":
    unittest.main()
