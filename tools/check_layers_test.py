"""Tests of tools/check_layers.py: each rule is broken once in a tree of its own."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOLS = Path(__file__).resolve().parent

CLEAN = {
    "include/tiercel/result.h": "#include <string>\n#include <stdint.h>\n#include <tl/expected.hpp>\n",
    "include/tiercel/cache.h": "#include <tiercel/result.h>\n",
    "src/base/clock.h": "#include <chrono>\n",
    "src/model/hash.h": '#include "base/clock.h"\n#include <tiercel/result.h>\n',
    "src/model/hash.cc": '#include "model/hash.h"\n#include <nlohmann/json.hpp>\n#include <openssl/evp.h>\n',
    "src/model/CMakeLists.txt": "tiercel_module(model\n  SOURCES hash.cc\n  DEPS base\n  LIBS OpenSSL::Crypto)\n",
    "src/index/table.cc": '#include "model/hash.h"\n#include "base/clock.h"\n',
    "src/index/table_test.cc": '#include "tests/support/keys.h"\n',
    "src/cuda/copy.cu": "#include <cuda_runtime.h>\n",
    "src/cli/main.cc": "#include <tiercel/cache.h>\n#include <CLI/CLI.hpp>\n",
    "connectors/llamacpp/adapter.h": "#include <tiercel/cache.h>\n#include <llama.h>\n",
    "connectors/llamacpp/server.cc": '#include "connectors/llamacpp/adapter.h"\n#include "adapter.h"\n',
    "examples/embed/main.cc": "#include <tiercel/cache.h>\n",
    "tests/support/keys.h": '#include "model/hash.h"\n',
    "fuzz/hash.cc": '#include "model/hash.h"\n',
}


class CheckLayersTest(unittest.TestCase):
    def check(self, **changed):
        """Runs the checker on the clean tree with `changed` files; gives its status and what it printed."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**CLEAN, **changed.get("files", {})}.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            done = subprocess.run(
                [sys.executable, str(TOOLS / "check_layers.py"), folder], capture_output=True, text=True, check=False
            )
            return done.returncode, done.stdout.splitlines()

    def assert_found(self, file, text, *, where, says):
        status, lines = self.check(files={file: text})
        self.assertEqual(status, 1)
        self.assertEqual(len(lines), 1, lines)
        self.assertTrue(lines[0].startswith(where + ":"), lines[0])
        self.assertIn(says, lines[0])

    def test_a_clean_tree_passes(self):
        self.assertEqual(self.check(), (0, []))

    def test_the_project_passes(self):
        done = subprocess.run([sys.executable, str(TOOLS / "check_layers.py")], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_an_upward_include_is_found(self):
        self.assert_found("src/base/clock.h", '#include <chrono>\n#include "model/hash.h"\n',
                          where="src/base/clock.h:2", says="module base includes src/model/hash.h")

    def test_an_upward_include_by_a_relative_path_is_found(self):
        self.assert_found("src/base/clock.h", '#include "../model/hash.h"\n', where="src/base/clock.h:1", says="module base")

    def test_an_upward_include_from_the_root_is_found(self):
        self.assert_found("src/base/clock.h", '#  include "src/model/hash.h"\n', where="src/base/clock.h:1", says="module base")

    def test_an_upward_include_in_angle_brackets_is_found(self):
        self.assert_found("src/base/clock.h", "#include <model/hash.h>\n", where="src/base/clock.h:1", says="module base")

    def test_an_upward_include_of_a_header_that_does_not_exist_is_found(self):
        self.assert_found("src/base/clock.h", '#include "cache/core.h"\n', where="src/base/clock.h:1", says="src/cache/core.h")

    def test_a_sideways_include_is_found(self):
        self.assert_found("src/policy/lru.cc", '#include "index/table.h"\n', where="src/policy/lru.cc:1", says="module policy")

    def test_an_upward_include_of_a_test_is_found(self):
        self.assert_found("src/base/clock_test.cc", '#include "model/hash.h"\n', where="src/base/clock_test.cc:1", says="module base")

    def test_product_code_that_includes_tests_is_found(self):
        self.assert_found("src/index/table.cc", '#include "tests/support/keys.h"\n', where="src/index/table.cc:1", says="above it")

    def test_upward_deps_of_a_target_are_found(self):
        self.assert_found("src/model/CMakeLists.txt", "tiercel_module(model SOURCES hash.cc DEPS base cache)\n",
                          where="src/model/CMakeLists.txt:1", says="DEPS cache")

    def test_a_module_without_a_row_is_found(self):
        self.assert_found("src/magic/wand.cc", "#include <vector>\n", where="src/magic/wand.cc:1", says="not in the table")

    def test_internals_in_a_public_header_are_found(self):
        self.assert_found("include/tiercel/cache.h", '#include "base/clock.h"\n',
                          where="include/tiercel/cache.h:1", says="a public header includes")

    def test_a_foreign_library_in_a_public_header_is_found(self):
        self.assert_found("include/tiercel/cache.h", "#include <fmt/core.h>\n",
                          where="include/tiercel/cache.h:1", says="a public header includes")

    def test_a_connector_that_includes_internals_is_found(self):
        self.assert_found("connectors/llamacpp/server.cc", '#include "cache/core.h"\n',
                          where="connectors/llamacpp/server.cc:1", says="connectors/llamacpp includes")

    def test_a_program_that_includes_internals_is_found(self):
        self.assert_found("src/cli/main.cc", '#include "base/clock.h"\n', where="src/cli/main.cc:1", says="src/cli includes")

    def test_a_program_may_run_the_service_and_see_no_more_of_it(self):
        self.assertEqual(self.check(files={"src/service/service.h": "#pragma once\n",
                                           "src/cli/serve.cc": '#include "service/service.h"\n'}), (0, []))
        self.assert_found("src/cli/serve.cc", '#include "service/http/front.h"\n',
                          where="src/cli/serve.cc:1", says="src/cli includes")

    def test_a_connector_that_includes_another_is_found(self):
        self.assert_found("connectors/other/a.cc", '#include "connectors/llamacpp/adapter.h"\n',
                          where="connectors/other/a.cc:1", says="connectors/other includes")

    def test_cuda_outside_its_folder_is_found(self):
        self.assert_found("src/transfer/copy.h", "#include <cuda_runtime.h>\n",
                          where="src/transfer/copy.h:1", says="CUDA header cuda_runtime.h")

    def test_json_in_a_header_is_found(self):
        self.assert_found("src/model/hash.h", "#include <nlohmann/json.hpp>\n", where="src/model/hash.h:1", says="nlohmann")


if __name__ == "__main__":
    unittest.main()
