#!/usr/bin/env python3
"""Goal: engines of different numbers of ranks share blocks, byte for byte: what one stores lies in the service with each head
in its place, and comes back into whatever ranks hold these heads now. Workers are processes of their own; the model is small,
with random weights that go by one name."""

import hashlib
import json
import os
import tempfile
import unittest

os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # the tests send a function to the workers
os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"

import engines
import tiercel
from engines import BLOCK, Service, tokens
from vllm import LLM, SamplingParams

LAYERS, HEAD_BYTES = 3, 2 * 64 * 2


def digests(worker, blocks):
    """By the workers: of each block and layer, the bytes of each head."""
    found = []
    for block in blocks:
        for layer in worker.model_runner.kv_caches:
            page = layer[block].contiguous().view(dtype=__import__("torch").uint8).cpu()
            found.append([hashlib.sha1(head.contiguous().numpy()).hexdigest() for head in page])
    return found


def forget(worker):
    for layer in worker.model_runner.kv_caches:
        layer.fill_(0)


class Model:
    def __init__(self, test, kv_heads):
        folder = tempfile.TemporaryDirectory(prefix="tiercel-vllm-model-")
        test.addCleanup(folder.cleanup)
        self.path, self.kv_heads = folder.name, kv_heads
        config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_act": "silu",
                  "hidden_size": 512, "intermediate_size": 512, "num_hidden_layers": LAYERS, "num_attention_heads": 8, "num_key_value_heads": kv_heads,
                  "max_position_embeddings": 2048, "vocab_size": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "head_dim": 64}
        with open(os.path.join(self.path, "config.json"), "w") as file:
            json.dump(config, file)


class Engine:
    def __init__(self, model, service, ranks):
        self.llm = LLM(model.path, skip_tokenizer_init=True, enforce_eager=True, block_size=BLOCK, max_model_len=1024, max_num_batched_tokens=256,
                       max_num_seqs=4, disable_log_stats=True, num_gpu_blocks_override=100, load_format="dummy", tensor_parallel_size=ranks,
                       kv_transfer_config={"kv_connector": "TiercelConnector", "kv_connector_module_path": "tiercel.vllm", "kv_role": "kv_both",
                                           "kv_connector_extra_config": {"socket": service.socket, "weights_id": "the test's"}})
        self.core = self.llm.llm_engine.engine_core.engine_core
        self.tiercel = self.core.scheduler.connector._scheduler

    def run(self, prompt):
        """How many tokens were cached, and the digests of the prompt's full blocks, all ranks in order."""
        self.blocks = []
        follow = self.tiercel._follow

        def follow_and_note(output):
            follow(output)
            for tracked in self.tiercel._tracked.values():
                self.blocks = list(tracked.blocks)

        self.tiercel._follow = follow_and_note
        (output,) = self.llm.generate([{"prompt_token_ids": prompt}], SamplingParams(temperature=0, max_tokens=1, detokenize=False), use_tqdm=False)
        self.tiercel._follow = follow
        full = self.blocks[: len(prompt) // BLOCK]
        return output.num_cached_tokens, self.llm.collective_rpc(digests, args=(full,))

    def drain(self):
        engines.until(lambda: self.llm.llm_engine.step() is not None and not self.core.scheduler.has_requests(), "the end of its stores")

    def forget(self):
        self.drain()
        assert self.llm.reset_prefix_cache()
        self.llm.collective_rpc(forget)

    def close(self):
        self.drain()
        self.llm.llm_engine.engine_core.shutdown()


class Ranks(unittest.TestCase):
    def in_service(self, engine, service, prompt, kv_heads):
        """The same digests, of the blocks as the service has them."""
        plan = engine.tiercel._opening._outcome[2]
        with tiercel.Client.connect(service.socket) as client:
            model = tiercel.ModelIdentity(name=plan.name, kv_dtype=plan.kv_dtype, weights=list(plan.weights), properties=dict(plan.properties))
            session = client.open_session(model, plan.layout.layout(), BLOCK)
            chain = tiercel.BlockChain(session.space(), prompt)
            views = session.load(chain, len(chain), 10).wait()
            self.assertEqual(len(views), len(prompt) // BLOCK)
            head = BLOCK * HEAD_BYTES
            found = []
            for view in views:
                for layer in range(LAYERS):
                    start = layer * kv_heads * head
                    found.append([hashlib.sha1(view[start + i * head : start + (i + 1) * head]).hexdigest() for i in range(kv_heads)])
            del views
            return found

    def whole(self, per_rank, kv_heads):
        """Heads in order; ranks that hold the same one agree."""
        ranks = len(per_rank)
        rows = []
        for row in zip(*per_rank):
            if ranks <= kv_heads:
                rows.append([head for part in row for head in part])
            else:
                copies = ranks // kv_heads
                self.assertTrue(all(row[i] == row[i // copies * copies] for i in range(ranks)))
                rows.append([part[0] for part in row[::copies]])
        return rows

    def share(self, kv_heads, storing, loading):
        """The first engine stores a prompt and the second loads it; the second stores one too."""
        service = Service()
        self.addCleanup(service.end)
        model = Model(self, kv_heads)
        first_prompt, second_prompt = ([token % 2000 for token in tokens(seed, 4 * BLOCK + 5)] for seed in (1, 2))
        first = Engine(model, service, storing)
        try:
            held = self.store(first, service, first_prompt, kv_heads)
        finally:
            first.close()
        second = Engine(model, service, loading)
        try:
            cached, loaded = second.run(first_prompt)
            self.assertEqual(cached, 4 * BLOCK)
            self.assertEqual(self.whole(loaded, kv_heads), held)
            held = self.store(second, service, second_prompt, kv_heads)
            second.forget()
            cached, loaded = second.run(second_prompt)
            self.assertEqual((cached, self.whole(loaded, kv_heads)), (4 * BLOCK, held))
        finally:
            second.close()

    def store(self, engine, service, prompt, kv_heads):
        cached, computed = engine.run(prompt)
        engine.drain()
        self.assertEqual((cached, engine.tiercel.stores.stored_blocks), (0, 4))
        held = self.in_service(engine, service, prompt, kv_heads)
        self.assertEqual(self.whole(computed, kv_heads), held)
        return held

    def test_one_rank_and_two_share(self):
        self.share(4, 1, 2)

    def test_two_ranks_with_one_head_between_them(self):
        self.share(1, 2, 2)


if __name__ == "__main__":
    unittest.main()
