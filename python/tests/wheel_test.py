#!/usr/bin/env python3
"""wheel_test.py PROJECT BUILD CC CXX BUILD_TYPE: the package as people install it.

Goal: a wheel installed into a fresh environment, away from the sources, carries all that it needs: the README's example
runs, the command `tiercel` is there, and a private service starts from it. Compiled with the flags of the development
build, so that ccache knows most of it."""

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PROJECT = BUILD = Path()
CC = CXX = BUILD_TYPE = ""


def run(*words, **options):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "TIERCEL_"))}
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False,
                          env=environment | options.pop("env", {}), **options)
    if done.returncode != 0:
        said = f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        raise AssertionError(f"{' '.join(map(str, words))} ended with {done.returncode}\n{said}")
    return done.stdout


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="tiercel-wheel-"))
        wheels = Path(cls.folder) / "wheels"
        run(sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--no-deps", "--no-build-isolation",
            "--wheel-dir", wheels, f"--config-settings=cmake.build-type={BUILD_TYPE}",
            "--config-settings=cmake.define.TIERCEL_WERROR=ON", f"--config-settings=build-dir={BUILD}",
            PROJECT / "python",
            env={"CC": CC, "CXX": CXX, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}, timeout=1500)
        (cls.wheel,) = wheels.iterdir()
        venv = Path(cls.folder) / "venv"
        run(sys.executable, "-m", "venv", venv)
        run(venv / "bin/python", "-m", "pip", "install", "--disable-pip-version-check", "--no-index", cls.wheel)
        cls.bin = venv / "bin"

    def python(self, text):
        return run(self.bin / "python", "-c", text, cwd=self.folder, timeout=120)

    def test_the_example_of_the_readme(self):
        readme = (PROJECT / "python/README.md").read_text(encoding="utf-8")
        (text,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        self.assertEqual(self.python(text), "10 of 12 blocks loaded, 10 with the bytes that were stored\n")

    def test_the_program(self):
        version = self.python("import tiercel; print(tiercel.__version__)").strip()
        self.assertIn(version, self.wheel.name)
        self.assertIn(version, run(self.bin / "tiercel", "--version", timeout=60))

    def test_a_private_service_starts_from_it(self):
        self.python("import tiercel, tempfile, os\n"
                    "with tempfile.TemporaryDirectory() as folder:\n"
                    "    start = tiercel.StartOptions(arguments=['--ram', '128MiB', '--host-prefault', 'false',\n"
                    "                                            '--service-idle-grace', '300ms'], deadline_s=100)\n"
                    "    with tiercel.Client.connect(os.path.join(folder, 's'), start=start) as client:\n"
                    "        session = client.open_session(tiercel.ModelIdentity(), tiercel.Layout.blob(1000), 16)\n"
                    "        chain = tiercel.BlockChain(session.space(), range(32))\n"
                    "        assert session.reserve(chain, 0).commit_all().blocks == 2\n")

    def test_it_carries_its_own_library_and_types(self):
        said = self.python("import tiercel, pathlib; p = pathlib.Path(tiercel.__file__).parent\n"
                           "print(*sorted(str(f.relative_to(p)) for f in p.rglob('*') if f.is_file()), sep='\\n')\n"
                           "print([l for l in open('/proc/self/maps') if 'libtiercel' in l][0].split()[-1])")
        for file in ("bin/tiercel", "py.typed", "_core.pyi"):
            self.assertIn(file, said.splitlines())
        self.assertEqual(said.count("lib/libtiercel.so"), 2, "once in the package, once in the memory of the process")
        self.assertIn(str(self.folder), said.splitlines()[-1], "libtiercel is the wheel's")


if __name__ == "__main__":
    PROJECT, BUILD = Path(sys.argv.pop(1)), Path(sys.argv.pop(1))
    CC, CXX, BUILD_TYPE = sys.argv.pop(1), sys.argv.pop(1), sys.argv.pop(1)
    unittest.main()
