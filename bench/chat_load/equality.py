"""The equality pass: is what Tiercel restores the same, token for token, as what the engine computes?

Under load it cannot be judged (batching alone changes tokens), so the engine's own test program does it in one slot with the same batch split.
"""
from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


class EqualityFailed(Exception):
    """The program could not run or said nothing that can be read."""


@dataclass(frozen=True)
class Equality:
    turns: int
    equal: int
    tokens: int  # of answers compared
    restored_tokens: int  # of prompts, that came from Tiercel: with none, equality would say nothing

    @property
    def holds(self) -> bool:
        return self.turns > 0 and self.equal == self.turns and self.restored_tokens > 0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}


def check(binary: Path, model: Path, turns: int, timeout_s: float) -> Equality:
    """Its exit code may be non-zero where turns differ: the figures decide."""
    command = [str(binary), "--model", str(model), "--turns", str(turns), "--json"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise EqualityFailed(f"{binary.name} took more than {timeout_s:.0f} s") from error
    except OSError as error:
        raise EqualityFailed(f"{binary.name} cannot be started: {error}") from error
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        found = Equality(int(answer["turns"]), int(answer["equal"]), int(answer["tokens"]), int(answer["restored_tokens"]))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise EqualityFailed(f"{binary.name} exited with {done.returncode} and no result: {(done.stderr or done.stdout).strip()[-400:]}") from error
    if found.turns != turns:
        raise EqualityFailed(f"{binary.name} ran {found.turns} turns, asked were {turns}")
    return found
