"""The command `tiercel`: the program of this package, in place of this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent / "bin" / "tiercel"


def main() -> None:
    os.environ.setdefault("TIERCEL_PYTHON", sys.executable)  # `tiercel bench serving` is a part of this package
    try:
        os.execv(PROGRAM, [str(PROGRAM), *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"tiercel: {PROGRAM}: {error.strerror}")
