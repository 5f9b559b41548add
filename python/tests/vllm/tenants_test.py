#!/usr/bin/env python3
"""Goal: a cache_salt that the service's configuration names as a tenant stores and finds in that tenant, within its quota; any
other salt keeps blocks apart; and no two of them ever share."""

import json
import os
import tempfile
import unittest

from engines import BLOCK, Engine, Service, check, tokens
from tiercel.vllm import tenants

CAP_BLOCKS = 18  # of 2,949,120 bytes fit 10 % of the arena
CONFIGURATION = """
[tenants.search]
host_cap = "10%"
[tenants.chat]
[tenants.default]
"""


class Salts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.NamedTemporaryFile("w", suffix=".toml", delete=False) as file:
            file.write(CONFIGURATION)
        cls.addClassCleanup(os.unlink, file.name)
        cls.service = Service("--config", file.name, "--host-capacity", "512MiB")
        cls.addClassCleanup(cls.service.end)
        cls.engine = Engine({"socket": cls.service.socket})
        cls.addClassCleanup(cls.engine.close)

    def setUp(self):
        self.engine.run(tokens(0, 10))  # the worker has its session from now on
        self.engine.forget()
        session = self.engine.tiercel.session
        for tenant in ("search", "chat", "default"):
            session.drop(session.space(tenant))

    def cached(self, prompt, salt, new_tokens=2):
        """Blocks of the prompt that were there, in an engine that has none itself."""
        _, cached = self.engine.run(prompt, new_tokens, salt=salt)
        self.engine.forget()
        return cached // BLOCK

    def used_blocks(self):
        """By tenant, what the service counts in RAM."""
        connection = tenants._Connection(self.service.socket + ".admin")
        self.addCleanup(connection.close)
        connection.request("POST", "/admin/quota", "{}")
        size = self.engine.tiercel.session.block_bytes
        return {tenant["tenant"]: tenant["host"]["used_bytes"] // size for tenant in json.loads(connection.getresponse().read())["tenants"]}

    def test_salts_and_tenants_are_apart(self):
        prompt = tokens(1, 3 * BLOCK + 5)
        salts = ["search", "chat", "default", "another", "a third", None]
        for salt in salts:
            self.assertEqual(self.cached(prompt, salt), 0, salt)
        for salt in salts:
            self.assertEqual(self.cached(prompt, salt), 3, salt)
        self.assertEqual(self.used_blocks(), {"search": 3, "chat": 3, "default": 4 * 3})
        check(self, self.engine)

    def test_a_tenant_has_what_its_cap_allows_and_others_keep_theirs(self):
        prompts = [tokens(10 + i, 12 * BLOCK + 5) for i in range(3)]
        for salt in ("chat", "search"):
            for prompt in prompts:
                self.engine.run(prompt, 1, salt=salt)
                self.engine.forget()
        self.assertEqual(self.used_blocks(), {"search": CAP_BLOCKS, "chat": 36, "default": 0})
        found = {salt: sum(self.cached(prompt, salt, 1) for prompt in reversed(prompts)) for salt in ("search", "chat")}
        self.assertEqual(found["chat"], 36)
        self.assertTrue(0 < found["search"] <= CAP_BLOCKS + 12, found)  # of the first it stores again what it lacks
        check(self, self.engine)


if __name__ == "__main__":
    unittest.main()
