#!/usr/bin/env python3
"""A program with the flags of tiercel-llama-equality. FAKE_EQUALITY: the turns that come out equal (default: all), or `garbage`."""
import json
import os
import sys

turns = int(sys.argv[sys.argv.index("--turns") + 1])
told = os.environ.get("FAKE_EQUALITY", str(turns))
if told == "garbage":
    print("Segmentation fault")
    sys.exit(139)
print("warming up")
print(json.dumps({"turns": turns, "equal": int(told), "tokens": 24 * turns}))
sys.exit(0 if int(told) == turns else 1)
