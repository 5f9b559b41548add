#!/usr/bin/env python3
"""Goal: the stub that is built with the extension names and types all that is public, so that type checkers see it."""

import ast
import inspect
import unittest
from pathlib import Path

import tiercel

PACKAGE = Path(tiercel.__file__).parent


def name_of(node):
    if isinstance(node, ast.Assign):
        return node.targets[0].id
    return node.target.id if isinstance(node, ast.AnnAssign) else getattr(node, "name", None)


class Stub(unittest.TestCase):
    def setUp(self):
        self.tree = ast.parse((PACKAGE / "_core.pyi").read_text(encoding="utf-8"))

    def test_it_names_all_that_is_public(self):
        named = {node.name: node for node in self.tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        core = tiercel._core
        for name in (n for n in vars(core) if not n.startswith("_")):
            self.assertIn(name, named)
            value = getattr(core, name)
            if inspect.isclass(value):
                members = {name_of(node) for node in named[name].body}
                public = {member for member in vars(value) if not member.startswith("_")}
                self.assertLessEqual(public, members, name)

    def test_every_call_is_typed_and_documented(self):
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef):
                self.assertIsNotNone(node.returns, node.name)
                for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                    self.assertTrue(argument.arg == "self" or argument.annotation is not None, node.name)
        for name in ("Cache", "Client", "Session", "Load", "Reservation", "Writer", "Pin", "BlockChain"):
            for member, value in vars(getattr(tiercel, name)).items():
                if not member.startswith("_") and callable(value):
                    self.assertGreater(len((value.__doc__ or "").strip().splitlines()), 1, f"{name}.{member}")

    def test_the_package_says_that_it_is_typed(self):
        self.assertTrue((PACKAGE / "py.typed").exists())
        self.assertEqual([name for name, value in vars(tiercel._core).items()
                          if not name.startswith("_") and not inspect.isclass(value) and not hasattr(tiercel, name)], [])
        for name in tiercel.__all__:
            self.assertTrue(hasattr(tiercel, name), name)


if __name__ == "__main__":
    unittest.main()
