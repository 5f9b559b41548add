#!/usr/bin/env python3
"""Goal: as people run it, each engine in a process of its own: two engines on one service share what they store, at the same
time; one that is killed leaves the other and the service as they were; one that is put to sleep wakes up."""

import os
import signal
import time
import unittest

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"

import engines
from engines import BLOCK, MODEL, Service, tokens
from vllm import LLM, SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=4, detokenize=False, ignore_eos=True)


def engine(service):
    return LLM(MODEL, skip_tokenizer_init=True, enforce_eager=True, block_size=BLOCK, max_model_len=2048, max_num_batched_tokens=512, max_num_seqs=8,
               disable_log_stats=True, kv_transfer_config={"kv_connector": "TiercelConnector", "kv_connector_module_path": "tiercel.vllm",
                                                           "kv_role": "kv_both", "kv_connector_extra_config": {"socket": service.socket}})


def run(llm, *prompts):
    outputs = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], GREEDY, use_tqdm=False)
    return [(list(output.outputs[0].token_ids), output.num_cached_tokens) for output in outputs]


def forget(llm):
    engines.until(llm.reset_prefix_cache, "the end of its stores")  # it fails while blocks are held


class Processes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = Service()
        cls.addClassCleanup(cls.service.end)

    def test_two_engines_share_and_one_is_killed(self):
        first, second = engine(self.service), engine(self.service)
        prompts = [tokens(i, 3 * BLOCK + 20 * i) for i in range(6)]
        cold = run(first, *prompts)
        self.assertEqual([cached for _, cached in cold], [0] * 6)
        local = run(first, *prompts)
        forget(first)
        self.assertEqual(run(second, *prompts), local)  # never seen there
        self.assertEqual(run(first, *prompts), local)
        forget(first)
        forget(second)
        # Both load at the same time, and one of them dies meanwhile.
        for name, llm in (("a", first), ("b", second)):
            for i, prompt in enumerate(prompts):
                llm.llm_engine.add_request(f"{name}{i}", {"prompt_token_ids": prompt}, GREEDY)
        ended = {}
        first.llm_engine.step()
        os.kill(self.process_of(first), signal.SIGKILL)
        end = time.monotonic() + engines.PATIENCE_S
        while len(ended) < 6:
            self.assertLess(time.monotonic(), end)
            for output in second.llm_engine.step():
                if output.finished:
                    ended[output.request_id.split("-")[0]] = (list(output.outputs[0].token_ids), output.num_cached_tokens)
        self.assertEqual([ended[f"b{i}"] for i in range(6)], local)
        third = engine(self.service)
        self.assertEqual(run(third, *prompts), local)
        self.sleeps_and_wakes(third)

    def sleeps_and_wakes(self, llm):
        """A server that is put to sleep steps on until its copies have ended; asleep, it forgets what it stored."""
        prompts = [tokens(20 + i, 4 * BLOCK + 20) for i in range(2)]
        for i, prompt in enumerate(prompts):
            llm.llm_engine.add_request(f"c{i}", {"prompt_token_ids": prompt}, GREEDY)
        for _ in range(4):
            llm.llm_engine.step()
        llm.sleep()  # aborts them, while their blocks are being stored
        self.assertTrue(llm.llm_engine.is_sleeping())
        llm.wake_up()
        while llm.llm_engine.has_unfinished_requests():
            llm.llm_engine.step()
        self.assertEqual([cached for _, cached in run(llm, *prompts)], [0] * 2)
        forget(llm)
        self.assertEqual([cached for _, cached in run(llm, *prompts)], [4 * BLOCK] * 2)

    def process_of(self, llm):
        (process,) = llm.llm_engine.engine_core.resources.engine_manager.processes
        return process.pid


if __name__ == "__main__":
    unittest.main()
