#!/usr/bin/env python3
"""What clients of `vllm serve` see with and without a cache beyond the GPU: one mode a run, over HTTP, streamed, on this machine.

    vllm_serve.py MODEL none|native|tiercel|lmcache [--parts ttft,batch,rounds,decode] [options] [-- flags of vllm serve]
    vllm_serve.py --table FILE...                              several results side by side, with the limit that `none` gives

MODEL is a model's folder; one with a config.json alone runs with random weights. `native` is vLLM's own offloading to RAM,
`lmcache` LMCache's server as a process of its own. A program beside the server starts it, is its only client and stops it.

ttft    for each length: cold prompts, one after the other, the same again from the engine's own prefix cache, and, after that
        alone was emptied, from the cache beyond
batch   prompts that come at once, likewise
rounds  users who each hold a conversation: a prompt that all share, a history of their own, and each round a question after all
        that was said; a user's next round waits for the answer, and comes at the pace of --qps over all users
decode  streams that decode, and nothing beside them

Needs vLLM, with what its server needs; `tiercel` the package tiercel, `lmcache` LMCache."""

import argparse
import asyncio
import json
import math
import os
import random
import signal
import statistics
import sys
import time

from vllm_server import CONNECTOR_COUNTS, Client, Process, Server, ServerError, free_port

MODES = ("none", "native", "tiercel", "lmcache")
PARTS = ("ttft", "batch", "rounds", "decode")
BUS_BYTES_PER_SECOND = 54.6e9  # of one contiguous copy, for the limit
LMCACHE_ENVIRONMENT = {"LMCACHE_TRACK_USAGE": "false", "LMCACHE_CHUNK_SIZE": "256", "LMCACHE_LOG_LEVEL": "WARNING"}


def arguments(words):
    words, flags = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="MODEL MODE")
    parser.add_argument("--table", nargs="+", metavar="FILE")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--out", help="result; the server's log lies beside it (default vllm-serve-MODE.json)")
    parser.add_argument("--label", help="name of the result in the table; the mode")
    parser.add_argument("--seed", type=int, default=1, help="of the prompts' tokens")
    parser.add_argument("--start", type=float, default=600, metavar="SECONDS", help="for a server to come up")
    engine = parser.add_argument_group("the engine and the cache beyond it")
    engine.add_argument("--host", default="64GiB", help="RAM of the cache")
    engine.add_argument("--socket", default="", help="of a tiercel service that runs; without it a private one is started")
    engine.add_argument("--extra", default="{}", help="further kv_connector_extra_config, as JSON")
    engine.add_argument("--max-model-len", type=int, default=40960, metavar="TOKENS")
    engine.add_argument("--max-num-seqs", type=int, default=16)
    engine.add_argument("--block-size", type=int, default=16, metavar="TOKENS")
    engine.add_argument("--oversubscribe", type=float, default=0, metavar="TIMES",
                        help="cut the engine's own cache so that all that the rounds say is so many times what fits")
    engine.add_argument("--warm", type=float, default=60, metavar="SECONDS", help="tiercel: at most, until steps wait for their loads")
    times = parser.add_argument_group("ttft and batch")
    times.add_argument("--tokens", default="4096,8192,16384,32768")
    times.add_argument("--prompts", type=int, default=10, help="of each length")
    times.add_argument("--batch", type=int, default=8, help="prompts at once")
    times.add_argument("--batch-tokens", type=int, default=8192)
    rounds = parser.add_argument_group("rounds")
    rounds.add_argument("--users", type=int, default=15)
    rounds.add_argument("--rounds", type=int, default=20)
    rounds.add_argument("--system", type=int, default=1000, metavar="TOKENS", help="that all users share")
    rounds.add_argument("--history", type=int, default=20000, metavar="TOKENS", help="of each user")
    rounds.add_argument("--question", type=int, default=20, metavar="TOKENS")
    rounds.add_argument("--answer", type=int, default=100, metavar="TOKENS")
    rounds.add_argument("--qps", type=float, default=2.0, help="of all users together, as long as answers come in time")
    rounds.add_argument("--seconds", type=float, default=300, help="no round is begun afterwards")
    decode = parser.add_argument_group("decode")
    decode.add_argument("--streams", type=int, default=8)
    decode.add_argument("--stream-tokens", type=int, default=512)
    options = parser.parse_args(words)
    options.flags, options.parts = flags, [part for part in options.parts.split(",") if part]
    if options.table:
        return options
    if len(options.what) != 2 or options.what[1] not in MODES:
        parser.error(f"give MODEL and one of {', '.join(MODES)}; or --table FILE...")
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"--parts: {unknown[0]!r} is none of {', '.join(PARTS)}")
    options.model, options.mode = options.what
    if not os.path.isfile(os.path.join(options.model, "config.json")):
        parser.error(f"{options.model} is no model's folder: it has no config.json")
    options.lengths = [int(count) for count in options.tokens.split(",")]
    longest = max([*(options.lengths if "ttft" in options.parts else ()), *([options.batch_tokens] if "batch" in options.parts else ()),
                   *([conversation_tokens(options)] if "rounds" in options.parts else ())], default=0) + 1
    if longest > options.max_model_len:
        parser.error(f"--max-model-len {options.max_model_len}: the longest prompt and its answer have {longest} tokens")
    if options.mode != "none":
        most = max([*(options.prompts * length for length in options.lengths if "ttft" in options.parts),
                    *([options.batch * options.batch_tokens] if "batch" in options.parts else ())], default=0) * token_bytes(options.model)
        if most > gib(options.host) * 2**30:
            parser.error(f"--host {options.host}: what is asked for again at once is {most / 2**30:.1f} GiB of KV: nothing would hit")
    options.out = options.out or f"vllm-serve-{options.mode}.json"
    return options


def conversation_tokens(options):
    return options.system + options.history + options.rounds * (options.question + options.answer)


def working_set_tokens(options):
    """Of all that the rounds say."""
    return options.system + options.users * (conversation_tokens(options) - options.system)


def token_bytes(model):
    """Bytes of KV a token, by the model's configuration, over all layers."""
    with open(os.path.join(model, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    heads = config["num_attention_heads"]
    value_bytes = 4 if config.get("torch_dtype", config.get("dtype")) == "float32" else 2
    head_values = config.get("head_dim") or config["hidden_size"] // heads
    return 2 * config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads) * head_values * value_bytes


def gib(text):
    import tiercel

    return tiercel.parse_bytes(text) / 2**30


def connector(options, lmcache_port):
    """kv_transfer_config of the mode."""
    extra = json.loads(options.extra)
    if options.mode == "native":
        return {"kv_connector": "OffloadingConnector", "kv_role": "kv_both",
                "kv_connector_extra_config": {"cpu_bytes_to_use": int(gib(options.host) * 2**30), **extra}}
    if options.mode == "lmcache":
        return {"kv_connector": "LMCacheMPConnector", "kv_role": "kv_both",
                "kv_connector_extra_config": {"lmcache.mp.host": "tcp://localhost", "lmcache.mp.port": lmcache_port, **extra}}
    own = {"socket": options.socket} if options.socket else {"host_bytes": options.host}
    if not any(name.endswith((".safetensors", ".bin")) for name in os.listdir(options.model)):
        own["weights_id"] = f"random weights of a benchmark, {time.time_ns()}"  # what a run before stored is not found
    return {"kv_connector": "TiercelConnector", "kv_connector_module_path": "tiercel.vllm", "kv_role": "kv_both",
            "kv_connector_extra_config": {**own, **extra}}


def start_lmcache(options):
    import socket

    port = free_port()
    server = Process([sys.executable, "-m", "lmcache.v1.multiprocess.server", "--host", "localhost", "--port", str(port), "--chunk-size",
                      LMCACHE_ENVIRONMENT["LMCACHE_CHUNK_SIZE"], "--l1-size-gb", str(gib(options.host)), "--eviction-policy", "LRU"],
                     os.path.splitext(options.out)[0] + ".lmcache.log", LMCACHE_ENVIRONMENT)

    def listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return server, port, listens


def server_flags(options, lmcache_port):
    flags = ["--max-model-len", str(options.max_model_len), "--max-num-seqs", str(options.max_num_seqs),
             "--block-size", str(options.block_size)]
    if options.oversubscribe:
        least = math.ceil(options.max_model_len / options.block_size)  # one request must fit
        blocks = round(working_set_tokens(options) / options.oversubscribe / options.block_size)
        flags += ["--num-gpu-blocks-override", str(max(least, blocks) + 1)]  # one block is never used
    if options.mode != "none":
        flags += ["--kv-transfer-config", json.dumps(connector(options, lmcache_port))]
    return flags + options.flags


def quantile(values, share):
    """The smallest value that so large a share of the values does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


class Bench:
    def __init__(self, server, options):
        self.server, self.options, self.client = server, options, Client(server.port)
        with open(os.path.join(options.model, "config.json"), encoding="utf-8") as file:
            vocabulary = json.load(file)["vocab_size"]
        generator = random.Random(options.seed)
        self.words = lambda count: ",".join(map(str, generator.choices(range(100, vocabulary - 100), k=count)))
        self.sizes = options.lengths if "ttft" in options.parts else [256]

    def ask(self, prompts, at_once=False, count=1):
        """Answers, and the seconds until the last of them had its first token. ServerError if one fails."""
        async def all_of_them():
            if at_once:
                return await asyncio.gather(*(self.client.ask(prompt, count) for prompt in prompts))
            return [await self.client.ask(prompt, count) for prompt in prompts]

        answers = asyncio.run(all_of_them())
        for answer in answers:
            if answer.error:
                raise ServerError(f"a request failed: {answer.error}")
        return answers, max(answer.steps[0][0] for answer in answers) - min(answer.sent for answer in answers)

    def settle(self):
        """Until nothing is being stored. LMCache's connector counts nothing that could be watched."""
        if self.options.mode != "none":
            self.server.settle(quiet=3.0 if self.options.mode == "lmcache" else 1.0)

    def forget(self):
        self.settle()
        self.server.forget()

    def warm(self):
        """What happens at first use: compiled code, buffers, and, of Tiercel, the registration of its RAM with the GPU, before
        which no step waits for a load."""
        for length in sorted({*self.sizes, self.options.batch_tokens if "batch" in self.options.parts else 256}):
            prompt = self.words(length)
            for _ in range(2):
                self.ask([prompt])
                self.forget()
        prompt, start = self.words(4 * self.options.block_size), time.monotonic()
        while self.options.mode == "tiercel" and time.monotonic() < start + self.options.warm:
            self.ask([prompt])
            if self.server.metrics().get("vllm:tiercel_step_loads", 0) > 0:
                return
            self.forget()

    def hits(self, prompts, at_once=False):
        """{cold, gpu_hit, hit: seconds to the first token; cached: of each, tokens said to be cached; whole: until all had it}"""
        row = {"cached": {}, "whole": {}}
        for kind in ("cold", "gpu_hit", "hit"):
            if kind == "hit":
                if self.options.mode == "none":
                    break
                self.forget()
            answers, row["whole"][kind] = self.ask(prompts, at_once)
            row[kind] = [answer.first for answer in answers]
            row["cached"][kind] = [answer.cached_tokens for answer in answers]
            self.settle()
        if max(row["cached"]["cold"]) > 0:
            raise ServerError("cold prompts were cached already, by a run before: give another --seed")
        self.server.forget()
        return row

    def ttft(self):
        return {str(length): self.hits([self.words(length) for _ in range(self.options.prompts)]) for length in self.options.lengths}

    def batch(self):
        return self.hits([self.words(self.options.batch_tokens) for _ in range(self.options.batch)], at_once=True)

    def rounds(self):
        options = self.options
        shared = self.words(options.system)
        opening = [self.words(options.history) for _ in range(options.users)]
        questions = [[self.words(options.question) for _ in range(options.rounds)] for _ in range(options.users)]
        before, pace = self.server.metrics(), options.users / options.qps
        ended = []

        async def user(number, start):
            said = f"{shared},{opening[number]}"
            for place in range(options.rounds):
                due = start + number / options.qps + place * pace
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if time.perf_counter() > start + options.seconds:
                    return
                said += "," + questions[number][place]
                answer = await self.client.ask(said, options.answer, with_tokens=True)
                ended.append((place, answer))
                if answer.error:
                    return  # there is nothing to go on from
                said += "," + ",".join(map(str, answer.tokens))

        async def all_users():
            start = time.perf_counter()
            await asyncio.gather(*(user(number, start) for number in range(options.users)))

        asyncio.run(all_users())
        good = [(place, answer) for place, answer in ended if not answer.error]
        if not good:
            raise ServerError(f"rounds: all of {len(ended)} requests failed" + (f", the first: {ended[0][1].error}" if ended else ""))
        now = self.server.metrics()
        span = max(answer.ended for _, answer in good) - min(answer.sent for _, answer in good)
        first = lambda chosen: [answer.first for place, answer in good if chosen(place)]  # noqa: E731
        return {
            "users": options.users, "rounds": options.rounds, "qps": options.qps, "requests": len(ended), "failed": len(ended) - len(good),
            "errors": sorted({answer.error for _, answer in ended if answer.error})[:10], "seconds": span,
            "requests_s": len(good) / span, "tokens_s": sum(len(answer.tokens) for _, answer in good) / span,
            "first": first(lambda place: True), "first_later": first(lambda place: place > 0),
            "prompt_tokens": sum(answer.prompt_tokens for _, answer in good),
            "cached_tokens": sum(answer.cached_tokens for _, answer in good),
            "beyond_tokens": now.get("vllm:external_prefix_cache_hits", 0) - before.get("vllm:external_prefix_cache_hits", 0),
            "preemptions": now.get("vllm:num_preemptions", 0) - before.get("vllm:num_preemptions", 0),
            "working_set_tokens": working_set_tokens(options), "pool_tokens": self.server.pool_tokens(),
        }

    def decode(self):
        answers, _ = self.ask([self.words(256) for _ in range(self.options.streams)], at_once=True, count=self.options.stream_tokens)
        start, end = max(answer.steps[0][0] for answer in answers), min(answer.ended for answer in answers)
        steps = [[step for step in answer.steps if start <= step[0] <= end] for answer in answers]
        gaps = [after[0] - before[0] for stream in steps for before, after in zip(stream, stream[1:])]
        if not gaps:
            raise ServerError("decode: the streams did not run at the same time; give more --stream-tokens")
        self.forget()
        return {"streams": len(answers), "cached_tokens": sum(answer.cached_tokens for answer in answers), "seconds": end - start,
                "tokens_s": sum(stream[-1][1] - stream[0][1] for stream in steps if stream) / (end - start), "gaps": gaps}


def measure(server, options, result, save):
    bench = Bench(server, options)
    result["pool_tokens"], result["working_set_tokens"] = server.pool_tokens(), working_set_tokens(options)
    pool, working = result["pool_tokens"], result["working_set_tokens"]
    print(f"{options.mode}: up after {result['start_s']:.0f} s; {pool:,} tokens fit the engine's own cache; the rounds' working set is "
          f"{working:,} ({working * result['token_bytes'] / 2**30:.1f} GiB), {working / pool:.2f} times that", flush=True)
    bench.warm()
    for part in options.parts:
        start, busy = time.perf_counter(), time.process_time()
        result[part] = getattr(bench, part)()
        seconds = time.perf_counter() - start
        result["client_share"][part] = (time.process_time() - busy) / seconds
        save()
        print(f"{options.mode}: {part} took {seconds:.1f} s", flush=True)
    counts = server.metrics().items()
    result["counts"] = {name.removeprefix("vllm:"): value for name, value in counts if name.startswith(CONNECTOR_COUNTS)}


def run(options):
    result = {"mode": options.mode, "label": options.label or options.mode, "token_bytes": token_bytes(options.model), "seed": options.seed,
              "client_share": {}}

    def save():
        with open(options.out, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)

    def end(number, frame):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    processes, lmcache_port = [], 0
    try:
        if options.mode == "lmcache":
            lmcache, lmcache_port, listens = start_lmcache(options)
            processes.append(("LMCache's server", lmcache))
            lmcache.wait_until(listens, options.start)
        server = Server(options.model, server_flags(options, lmcache_port), os.path.splitext(options.out)[0] + ".log",
                        LMCACHE_ENVIRONMENT if options.mode == "lmcache" else {})
        processes.append(("vLLM's server", server))
        result["command"] = server.command
        result["start_s"] = server.wait_until_up(options.start)
        try:
            measure(server, options, result, save)
        except ServerError as error:
            if server.ends_within(10):  # it notices after a while that its engine is dead
                raise ServerError(f"{error}; the server has ended with status {server.process.returncode}; the end of {server.log}:\n"
                                  f"{server.last_lines()}") from error
            raise
    finally:
        for name, process in reversed(processes):
            ended = result.setdefault("ended", {})[name] = process.stop()
            if ended["killed"]:
                print(f"{name}: {ended['killed']} processes had to be killed", file=sys.stderr)
    save()


def ms(values, share=None):
    """Median and a quantile, in ms."""
    if not values:
        return ""
    middle = f"{statistics.median(values) * 1e3:.1f}"
    return middle if share is None else f"{middle} ({quantile(values, share) * 1e3:.1f})"


def whole(batch):
    """A batch as one prompt: how long until all had their first token."""
    return {kind: [took] for kind, took in batch["whole"].items()} | {"cached": batch["cached"]}


def print_first_tokens(results):
    none = next((result for result in results if result["mode"] == "none"), {})
    rows = []
    for result in results:
        for length, row in result.get("ttft", {}).items():
            rows.append((int(length), f"{int(length):,}", result, row, none.get("ttft", {}).get(length)))
        if "batch" in result:
            batch, base = whole(result["batch"]), whole(none["batch"]) if "batch" in none else None
            rows.append((math.inf, f"{len(batch['cached']['cold'])} at once", result, batch, base))
    if rows:
        print("time to the first token, ms: median (p90)")
        print(f"{'tokens':>10} {'mode':12} {'cold':>16} {'of none':>8} {'GPU hit':>16} {'hit beyond':>16} {'limit':>8} {'hit/limit':>9}  "
              "cached less than the best GPU hit")
    for number, what, result, row, base in sorted(rows, key=lambda row: row[0]):
        of_none = limit = share = ""
        if base:
            of_none = f"{statistics.median(row['cold']) / statistics.median(base['cold']):.3f}"
        if base and row.get("hit"):
            cached = row["cached"]["hit"]
            tokens = sum(cached) if number == math.inf else statistics.median(cached)
            least = statistics.median(base["gpu_hit"]) + tokens * result["token_bytes"] / BUS_BYTES_PER_SECOND
            limit, share = f"{least * 1e3:.1f}", f"{statistics.median(row['hit']) / least:.2f}"
        most = max(row["cached"]["gpu_hit"])
        short = [sum(cached < most for cached in row["cached"].get(kind, ())) for kind in ("gpu_hit", "hit")]
        said = f"{short[0]} GPU hits, {short[1]} hits of {len(row['cached']['cold'])}" if any(short) else ""
        print(f"{what:>10} {result['label']:12} {ms(row['cold'], 0.9):>16} {of_none:>8} {ms(row['gpu_hit'], 0.9):>16} "
              f"{ms(row.get('hit'), 0.9):>16} {limit:>8} {share:>9}  {said}")


def print_rounds(label, r):
    def three(values):
        return "/".join(f"{quantile(values, share) * 1e3:.0f}" for share in (0.5, 0.95, 0.99)) if values else "-"

    print(f"{label:12} rounds: first token p50/p95/p99 {three(r['first'])} ms, after the first round {three(r['first_later'])} ms; "
          f"{r['requests_s']:.2f} requests/s, {r['tokens_s']:.1f} tokens/s")
    print(f"{'':12} {r['cached_tokens'] / r['prompt_tokens']:.1%} of the prompts' tokens cached "
          f"({r['beyond_tokens'] / r['prompt_tokens']:.1%} beyond the GPU); {r['failed']} of {r['requests']} failed; working set "
          f"{r['working_set_tokens'] / r['pool_tokens']:.2f} times the GPU's cache; {r['preemptions']:.0f} preemptions")


def print_decode(label, d):
    print(f"{label:12} decode: {d['tokens_s']:.1f} tokens/s of {d['streams']} streams; between tokens "
          f"p50 {quantile(d['gaps'], 0.5) * 1e3:.2f} ms, p99 {quantile(d['gaps'], 0.99) * 1e3:.2f} ms")


def print_counts(label, c):
    lost = c["tiercel_refused_blocks"] + c["tiercel_lost_blocks"] + c["tiercel_failed_blocks"]
    print(f"{label:12} {c['tiercel_loads']:.0f} loads, for {c['tiercel_step_loads']:.0f} of them a step waited; "
          f"{c['tiercel_failed_loads']:.0f} failed; {c['tiercel_stored_blocks']:.0f} blocks stored, {lost:.0f} not")


def table(files):
    results = []
    for name in files:
        with open(name, encoding="utf-8") as file:
            results.append(json.load(file))
    print_first_tokens(results)
    for part, show in (("rounds", print_rounds), ("decode", print_decode)):
        for result in results:
            if part in result:
                show(result["label"], result[part])
    for result in results:
        if "tiercel_loads" in result.get("counts", {}):
            print_counts(result["label"], result["counts"])
        for part, share in result["client_share"].items():
            if share > 0.5:
                print(f"{result['label']:12} {part}: the client was busy for {share:.0%} of the time: its times may be its own")


def main():
    options = arguments(sys.argv[1:])
    if options.table:
        table(options.table)
        return 0
    try:
        run(options)
    except ServerError as error:
        print(f"vllm_serve.py: {options.mode}: {error}", file=sys.stderr)
        return 1
    table([options.out])
    return 0


if __name__ == "__main__":
    sys.exit(main())
