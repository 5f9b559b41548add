#!/usr/bin/env python3
"""Checks that dependencies between the folders of the project point down only (docs/architecture.md, part 3).

Looks at every #include of the tree and at the DEPS of every tiercel_module(). Refused are: a module that includes a
module it may not depend on, a public header that includes anything but public headers, the standard library and
tl/expected, a connector or a program that includes more than the public API, a CUDA header outside src/cuda, and
nlohmann-json in a header. Prints one line a violation, "file:line: sentence", and exits 1 if there is any.
"""

import argparse
import posixpath
import re
import sys
from pathlib import Path

# Direct dependencies of the modules of src/. What these depend on may be included too.
MODULES = {
    "base": [],
    "config": ["base"],
    "metrics": ["base"],
    "model": ["base"],
    "memory": ["base"],
    "io": ["base"],
    "index": ["model"],
    "policy": ["model"],
    "transfer": ["memory", "model"],
    "tier": ["memory", "io", "model"],
    "inspect": ["config", "tier"],
    "cuda": ["transfer"],
    "cache": ["config", "index", "policy", "transfer", "tier"],
    "capi": ["cache", "config", "metrics"],
    "service": ["cache", "config", "metrics"],
    "recording": ["config", "model"],
    "workload": ["base"],
    "replay": ["policy", "workload"],
}
# Folders that see the public API, their own files and foreign libraries, and no other part of the project.
API_USERS = ["src/cli", "connectors", "examples", "python"]
# What they may include besides: the command line runs the service and replays.
ALSO = {"src/cli": {"src/service/service.h", "src/service/view.h", "src/service/engine_door.h",
                    "src/service/server/socket_door.h", "src/service/start/idle_end.h",
                    "src/service/start/report.h", "src/replay/replay.h", "src/replay/tiered_replay.h",
                     "src/workload/combined_workload.h", "src/workload/read_workload.h"}}
# Folders that may include every module but cuda.
ABOVE_ALL = ["sim", "tests", "fuzz", "bench"]

SUFFIXES = {".h", ".cc", ".c", ".cu", ".cuh"}
HEADERS = {".h", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
MODULE_CALL = re.compile(r"tiercel_module\(\s*(\w+)([^)]*)\)", re.DOTALL)
CUDA = re.compile(r"^(cuda|cuda_runtime|cuda_runtime_api|cuda_fp16|cuda_bf16|nvml|nvToolsExt)\.h$|^(cuda|cub|thrust|cooperative_groups)/")
JSON = re.compile(r"^nlohmann/")
STANDARD_C = {"stddef.h", "stdint.h"}


def reachable(module):
    """`module` and all it depends on."""
    found, queue = set(), [module]
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue.extend(MODULES[name])
    return found


def module_of(path):
    """The module a path of the project lies in, or None."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "src" and parts[1] != "cli" else None


def resolve(root, file, name):
    """The path in the project that an include means, or None where it is a foreign header."""
    beside = posixpath.normpath(posixpath.join(posixpath.dirname(file), name))
    for candidate in (beside, posixpath.join("src", name), name, posixpath.join("include", name)):
        if (root / candidate).is_file():
            return posixpath.normpath(candidate)
    if name.startswith("tiercel/"):
        return "include/" + name
    if name.split("/")[0] in MODULES and "/" in name:
        return "src/" + name  # a header that does not exist (yet) belongs to its module all the same
    return None


def inside(path, folders):
    return next((folder for folder in folders if path.startswith(folder + "/")), None)


def check_include(file, name, quoted, target):
    """The sentence that says what is wrong with an include, or None."""
    if CUDA.search(name) and not file.startswith("src/cuda/"):
        return f"CUDA header {name} outside src/cuda"
    if JSON.search(name) and Path(file).suffix in HEADERS:
        return f"{name} in a header; nlohmann-json belongs into .cc files"
    if file.startswith("include/"):
        foreign = target is None and (quoted or ("/" in name or "." in name)) and name not in STANDARD_C
        if name != "tl/expected.hpp" and (foreign or (target and not target.startswith("include/tiercel/"))):
            return f"a public header includes {name}; allowed are public headers, the standard library and tl/expected"
        return None
    if target is None or target.startswith("include/tiercel/"):
        return None
    owner = inside(file, API_USERS)
    if owner:
        own_folder = "/".join(file.split("/")[:2])
        if target.startswith(own_folder + "/") or target in ALSO.get(owner, ()):
            return None
        return f"{own_folder} includes {target}; it may use include/tiercel and its own files only"
    source, used = module_of(file), module_of(target)
    if source is None:
        return f"{file} includes {target}, of src/cuda" if used == "cuda" else None
    if inside(target, API_USERS + ABOVE_ALL):
        support = file.endswith("_test.cc") and target.startswith("tests/")
        return None if support else f"module {source} includes {target}, which is above it"
    if used and used not in reachable(source):
        return f"module {source} includes {target}; it may depend on {', '.join(sorted(reachable(source)))}"
    return None


def check_file(root, file):
    source = module_of(file)
    if source is not None and source not in MODULES:
        yield f"{file}:1: module {source} is not in the table of tools/check_layers.py"
        return
    for number, line in enumerate((root / file).read_text(encoding="utf-8").splitlines(), start=1):
        match = INCLUDE.match(line)
        if match:
            name = match.group(2)
            sentence = check_include(file, name, match.group(1) == '"', resolve(root, file, name))
            if sentence:
                yield f"{file}:{number}: {sentence}"


def check_cmake(root, file):
    """The DEPS that a module declares."""
    text = (root / file).read_text(encoding="utf-8")
    for call in MODULE_CALL.finditer(text):
        module, words, in_deps = call.group(1), call.group(2).split(), False
        line = text.count("\n", 0, call.start()) + 1
        if module not in MODULES:
            yield f"{file}:{line}: module {module} is not in the table of tools/check_layers.py"
            continue
        for word in words:
            if word in ("SOURCES", "HEADERS", "DEPS", "LIBS"):
                in_deps = word == "DEPS"
            elif in_deps and word not in reachable(module):
                yield f"{file}:{line}: module {module} declares DEPS {word}, which is not below it"


def violations(root):
    """All violations of a tree, sorted by file."""
    folders = ["include", "src", *[f for f in API_USERS if not f.startswith("src/")], *ABOVE_ALL]
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            file = path.relative_to(root).as_posix()
            if path.suffix in SUFFIXES and path.is_file():
                yield from check_file(root, file)
            elif path.name == "CMakeLists.txt" and folder == "src":
                yield from check_cmake(root, file)


def main():
    parser = argparse.ArgumentParser(description="Checks that dependencies between folders point down only.")
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent)
    found = list(violations(parser.parse_args().root))
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
