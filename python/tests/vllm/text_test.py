#!/usr/bin/env python3
"""Goal: conversations about real text, of many rounds and of users who share documents: whoever comes back after the engine has
forgotten gets the bytes that were stored, and answers as the engine gives them from its own cache at the same place.

The conversations are those of bench/chat_load, in the tokens of the model. Each prompt is asked twice at one boundary: with the
engine's own cache, storing nothing, and with that emptied. TIERCEL_TEST_PROMPTS: how many prompts."""

import glob
import os
import sys
import unittest

from engines import BLOCK, MODEL, Engine, Service, check

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), *[os.pardir] * 3, "bench"))

from chat_load.conversation import SYSTEM_PROMPT, LoadShape, build_load  # noqa: E402
from chat_load.corpus import read_documents  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

PROMPTS = int(os.environ.get("TIERCEL_TEST_PROMPTS", "200"))
ROUNDS, ANSWER = 5, 6
COMPUTES = {"extra_args": {"kv_transfer_params": {"tiercel_store": False}}}


class Text(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        (file,) = glob.glob(MODEL + "*.gguf")
        tokenizer = AutoTokenizer.from_pretrained(os.path.dirname(file), gguf_file=os.path.basename(file))
        cls.tokens = staticmethod(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"])
        cls.service = Service("--host-capacity", "1536MiB")
        cls.addClassCleanup(cls.service.end)
        cls.engine = Engine({"socket": cls.service.socket})
        cls.addClassCleanup(cls.engine.close)

    def test_conversations(self):
        users = -(-PROMPTS // ROUNDS)
        shape = LoadShape(users=users, rounds=ROUNDS, history_tokens=420, users_per_document=2, answer_tokens=ANSWER)
        prompts = begun_with = 0
        for script in build_load(shape, read_documents()).users:
            conversation = self.tokens(f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n")
            for number in range(ROUNDS):
                conversation += self.tokens(f"<|im_start|>user\n{script.user_message(number)}<|im_end|>\n<|im_start|>assistant\n")
                if number == 0:
                    self.engine.forget()
                    begun_with += self.engine.run(conversation, ANSWER)[1]
                prompts += 1
                conversation += self.ask(conversation, f"{script.name}, round {number + 1}") + self.tokens("<|im_end|>\n")
        self.assertEqual(prompts, users * ROUNDS)
        self.assertGreaterEqual(begun_with, users // 4 * BLOCK, "of documents that others had begun with")
        self.loaded += begun_with
        check(self, self.engine, loaded=self.loaded // BLOCK)
        print(f"{prompts} prompts, {self.loaded} tokens loaded", file=sys.stderr)

    loaded = 0

    def ask(self, prompt, what):
        """Its answer, which must be one answer."""
        local = self.engine.run(prompt, ANSWER, **COMPUTES)
        self.assertGreater(local[1], 2 * BLOCK, what)
        self.engine.forget()
        external = self.engine.run(prompt, ANSWER)
        self.assertEqual(external, local, what)
        self.loaded += external[1]
        return external[0]


if __name__ == "__main__":
    unittest.main()
