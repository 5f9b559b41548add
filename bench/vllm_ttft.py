#!/usr/bin/env python3
"""Time to first token of vLLM with and without a cache beyond the GPU, the engine in this process; one mode a run.

    vllm_ttft.py MODEL none|native|tiercel [--host 40GiB] [--tokens 4096,...] [--prompts 3] [--rounds 3] [--out FILE]
    vllm_ttft.py --table FILE...                              several results, with the limit that `none` gives

MODEL is a model's folder; one with a config.json alone runs with random weights. For each length: cold prompts, the same
again from the engine's own prefix cache, and, after that alone was emptied, from the cache beyond. Before: are the blocks
that come back what they were, byte for byte? In the end: how long do streams that decode stand still while prompts arrive
that are hits (with `none`: GPU hits, and prompts that are computed)? Needs vLLM and the package tiercel."""

import argparse
import collections
import json
import os
import random
import statistics
import sys
import time

BUS_BYTES_PER_SECOND = 54.6e9  # of one contiguous copy, for the limit
SETTLE_S = 30


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="*", metavar="MODEL MODE")
    parser.add_argument("--table", nargs="+", metavar="FILE")
    parser.add_argument("--host", default="40GiB", help="RAM of the cache")
    parser.add_argument("--socket", default="", help="of a service that runs; without it a private one is started")
    parser.add_argument("--tokens", default="4096,8192,16384,32768")
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=8, help="that decode beside arrivals; 0: none")
    parser.add_argument("--arriving", type=int, default=16384, help="tokens of the prompts that arrive; one of --tokens")
    parser.add_argument("--load-mode", default="auto")
    parser.add_argument("--layout", choices=("HND", "NHD"), default="HND", help="of the engine's KV, with tiercel")
    parser.add_argument("--engine", default="{}", help="further arguments of vllm.LLM, as JSON")
    parser.add_argument("--out")
    options = parser.parse_args()
    if not options.table and (len(options.what) != 2 or options.what[1] not in ("none", "native", "tiercel")):
        parser.error("give MODEL and one of none, native, tiercel; or --table FILE...")
    return options


def open_engine(model, mode, options):
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    import tiercel
    from vllm import LLM

    more = json.loads(options.engine)
    if mode == "native":
        more |= {"kv_offloading_size": tiercel.parse_bytes(options.host) / 2**30, "kv_offloading_backend": "native"}
    if mode == "tiercel":
        extra = {"weights_id": "random weights of a benchmark", "load_mode": options.load_mode, "layout": options.layout}
        extra |= {"socket": options.socket} if options.socket else {"host_bytes": options.host}
        more["kv_transfer_config"] = {"kv_connector": "TiercelConnector", "kv_connector_module_path": "tiercel.vllm",
                                      "kv_role": "kv_both", "kv_connector_extra_config": extra}
    weights = any(name.endswith((".safetensors", ".bin")) for name in os.listdir(model))
    return LLM(model, skip_tokenizer_init=True, enable_prefix_caching=True, seed=0,
               **({} if weights else {"load_format": "dummy"}), **more)


class Bench:
    def __init__(self, engine, options):
        from vllm import SamplingParams

        self.llm, self.options, self.random = engine, options, random.Random(1)
        self.core = engine.llm_engine.engine_core.engine_core
        self.sampling = lambda count: SamplingParams(max_tokens=count, temperature=0, detokenize=False, ignore_eos=True)
        self.vocabulary = engine.llm_engine.model_config.get_vocab_size()

    def prompt(self, count):
        return {"prompt_token_ids": [self.random.randrange(100, self.vocabulary - 100) for _ in range(count)]}

    def ask(self, prompts):
        """Seconds until all of them have their first token, and how many of their tokens were cached."""
        start = time.perf_counter()
        answers = self.llm.generate(prompts, self.sampling(1), use_tqdm=False)
        return time.perf_counter() - start, sum(answer.num_cached_tokens or 0 for answer in answers)

    def settle(self):
        """Until nothing is being stored any more: an engine in this process goes on only when it is stepped."""
        end = time.monotonic() + SETTLE_S
        while self.core.scheduler.has_requests():
            if time.monotonic() > end:
                raise RuntimeError(f"stores have not ended after {SETTLE_S} s")
            self.llm.llm_engine.step()
            time.sleep(0.002)

    def forget(self):
        """Empties the engine's own prefix cache alone."""
        self.settle()
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("the prefix cache could not be emptied")

    def kv_tensors(self):
        runner = self.core.model_executor.driver_worker.worker.model_runner
        return list(runner.kv_caches)

    def sums(self):
        """{checksum of a block over all layers: how often}, of blocks that are not empty."""
        import torch

        total = 0
        for number, tensor in enumerate(self.kv_tensors()):
            torch.manual_seed(number)
            weights = torch.randint(1, 1 << 20, tensor.shape[1:], device=tensor.device)
            total = total + torch.cat([(part.view(torch.int16).to(torch.int64) * weights).flatten(1).sum(1) for part in tensor.split(1024)])
        return collections.Counter(total[total != 0].tolist())

    def wipe(self):
        for tensor in self.kv_tensors():
            tensor.zero_()

    def verify(self, count):
        prompt = self.prompt(count)
        self.forget()
        self.wipe()
        self.ask([prompt])
        before = self.sums()
        self.forget()
        self.wipe()
        _, cached = self.ask([prompt])
        return {"blocks": sum(before.values()), "same": sum((before & self.sums()).values()), "cached_tokens": cached}

    def stall(self, arriving):
        """Milliseconds that streams stand still for each prompt that arrives, over all steps, and the longest step."""
        engine = self.llm.llm_engine
        names = [f"stream-{i}" for i in range(self.options.streams)]
        for name in names:
            engine.add_request(name, self.prompt(256), self.sampling(4000))
        for _ in range(40):
            engine.step()

        def steps(count, arrivals):
            times = []
            for i in range(count):
                start = time.perf_counter()
                if i in arrivals:
                    engine.add_request(f"arrival-{i}", arrivals[i], self.sampling(1))
                engine.step()
                times.append(time.perf_counter() - start)
            return times

        quiet = statistics.median(steps(100, {}))
        loud = steps(60 * (1 + len(arriving)), {30 + 60 * i: prompt for i, prompt in enumerate(arriving)})
        engine.abort_request(names)
        while engine.has_unfinished_requests():
            engine.step()
        return {"quiet_ms": quiet * 1e3, "stall_ms": sum(max(0, t - quiet) for t in loud) * 1e3 / len(arriving), "longest_ms": max(loud) * 1e3}

    def run(self, mode):
        lengths = [int(count) for count in self.options.tokens.split(",")]
        for count in (lengths[0], lengths[-1], 64):  # code that is compiled at its first use
            self.ask([self.prompt(count)])
        result = {"mode": mode, "tokens": {}}
        if mode != "none":
            result["verify"] = self.verify(lengths[0])
            print("verify:", result["verify"], flush=True)
        self.forget()
        prompts = {count: [self.prompt(count) for _ in range(self.options.prompts)] for count in lengths}
        for count in lengths:
            row = result["tokens"][count] = {"cold": [], "gpu_hit": [], "hit": [], "cached": []}
            for prompt in prompts[count]:
                row["cold"].append(self.ask([prompt])[0])
                self.settle()
                row["gpu_hit"].append(self.ask([prompt])[0])
        for _ in range(self.options.rounds if mode != "none" else 0):
            self.forget()
            for count in lengths:
                for prompt in prompts[count]:
                    took, cached = self.ask([prompt])
                    result["tokens"][count]["hit"].append(took)
                    result["tokens"][count]["cached"].append(cached)
        if self.options.streams and self.options.arriving in prompts:
            arriving = prompts[self.options.arriving]
            if mode == "none":
                for prompt in arriving:
                    self.ask([prompt])
                result["stall_gpu_hit"] = self.stall(arriving)
            self.forget()
            result["stall"] = self.stall(arriving)
        cache = self.llm.llm_engine.vllm_config.model_config
        parallel = self.llm.llm_engine.vllm_config.parallel_config
        result["token_bytes"] = 2 * 2 * cache.get_head_size() * cache.get_num_kv_heads(parallel) * cache.get_num_layers(parallel)
        return result


def table(files):
    results = []
    for name in files:
        with open(name, encoding="utf-8") as file:
            results.append(json.load(file))
    none = next((result for result in results if result["mode"] == "none"), None)
    ms = lambda times: f"{statistics.median(times) * 1e3:9.1f}" if times else f"{'':9}"  # noqa: E731
    print(f"{'mode':8} {'tokens':>7} {'cold ms':>9} {'of none':>8} {'GPU hit':>9} {'hit':>9} {'limit':>9} {'hit/limit':>9}  cached")
    for result in results:
        for count, row in result["tokens"].items():
            of_none = limit = share = ""
            if none:
                of_none = f"{statistics.median(row['cold']) / statistics.median(none['tokens'][count]['cold']):.3f}"
                if row["hit"]:
                    least = statistics.median(none["tokens"][count]["gpu_hit"]) + min(row["cached"]) * result["token_bytes"] / BUS_BYTES_PER_SECOND
                    limit, share = f"{least * 1e3:.1f}", f"{statistics.median(row['hit']) / least:.2f}"
            print(f"{result['mode']:8} {count:>7} {ms(row['cold'])} {of_none:>8} {ms(row['gpu_hit'])} {ms(row['hit'])} {limit:>9} {share:>9}  "
                  f"{min(row['cached']) if row['cached'] else ''}")
    for result in results:
        if "verify" in result:
            print(f"{result['mode']:8} {result['verify']['same']} of {result['verify']['blocks']} blocks came back byte for byte, "
                  f"{result['verify']['cached_tokens']} tokens said to be cached")
        for key, text in (("stall_gpu_hit", "GPU hits"), ("stall", "computed prompts" if result["mode"] == "none" else "hits")):
            if key in result:
                print(f"{result['mode']:8} decoding beside {text}: {result[key]['stall_ms']:.1f} ms stall an arrival, longest step "
                      f"{result[key]['longest_ms']:.1f} ms (alone {result[key]['quiet_ms']:.1f})")


def main():
    options = arguments()
    if options.table:
        table(options.table)
        return
    model, mode = options.what
    result = Bench(open_engine(model, mode, options), options).run(mode)
    out = options.out or f"vllm-{mode}.json"
    with open(out, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    table([out])
    sys.stdout.flush()
    os._exit(0)  # threads of a connector may outlive its engine


if __name__ == "__main__":
    main()
