#!/usr/bin/env python3
"""A program with the flags of tiercel-llama-equality. FAKE_EQUALITY: the turns that come out equal (default: all), `garbage` or `nothing`."""
import json
import os
import sys

turns = int(sys.argv[sys.argv.index("--turns") + 1])
told = os.environ.get("FAKE_EQUALITY", str(turns))
if told == "garbage":
    print("Segmentation fault")
    sys.exit(139)
print("warming up")
equal = turns if told == "nothing" else int(told)
restored = 0 if told == "nothing" else 64 * turns
print(json.dumps({"turns": turns, "equal": equal, "tokens": 24 * turns, "prompt_tokens": 90 * turns, "restored_tokens": restored}))
sys.exit(0 if equal == turns and restored else 1)
