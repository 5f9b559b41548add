#!/usr/bin/env python3
"""Goal: `python -m tiercel.bench_serving` from its flags to its answer: the load that a server sees, table, JSON and plot, two servers
and two runs, sentences for what is wrong, and that it always ends."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from fake_openai import FakeOpenAi

from tiercel.bench_serving.progress import Progress
from tiercel.bench_serving.program import main

SMALL = ["--users", "4", "--rounds", "3", "--system-tokens", "64", "--history-tokens", "160", "--question-tokens", "16", "--answer-tokens", "5"]
FAST = [*SMALL, "--qps", "200"]


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def run_main(self, *words):
        """Status, stdout, stderr."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main([str(word) for word in words])
        return status, out.getvalue(), err.getvalue()

    def measure(self, server, *words, status=0):
        """The document of a run."""
        path = self.path("run.json")
        found, out, err = self.run_main("--endpoint", server.url, *words, "--json", path)
        self.assertEqual(found, status, err)
        with open(path, encoding="utf-8") as file:
            return json.load(file), out


class Conversations(Case):
    def test_what_the_server_saw_is_what_is_said(self):
        with FakeOpenAi(first_delay_s=0.02) as server:
            document, out = self.measure(server, *FAST, "--svg", self.path("run.svg"))
        self.assertEqual(len(server.requests), 12)
        (run,) = document["runs"]
        summary = run["summary"]
        self.assertEqual((summary["answered"], summary["failed"], run["model"]), (12, 0, "fake"))
        self.assertEqual(sorted(request["tokens"] for request in server.requests), sorted(4 * [240, 261, 282]))
        self.assertEqual(summary["prompt_length"]["off_max"], 0)
        cached = sum(request["cached"] for request in server.requests)
        self.assertGreater(cached, 0)
        self.assertEqual(summary["hits"]["ratio"], cached / (4 * (240 + 261 + 282)))
        self.assertGreaterEqual(summary["latency_s"]["ttft"]["p50"], 0.02)
        self.assertIn("12 of 12 answered", out)
        self.assertRegex(out, rf"hits +{summary['hits']['ratio']:.1%} of prompt tokens by usage")
        with open(self.path("run.svg"), encoding="utf-8") as file:
            self.assertEqual(file.read().count('r="2.5"'), 12)

    def test_the_same_seed_is_the_same_load(self):
        said = []
        for seed in (1, 1, 2):
            with FakeOpenAi() as server:
                self.measure(server, *FAST, "--fixed-answers", "--api", "chat", "--seed", seed)
                said.append(sorted(json.dumps(request["messages"]) for request in server.requests))
        self.assertEqual(said[0], said[1])
        self.assertFalse(set(said[0]) & set(said[2]))

    def test_a_closed_loop_has_so_many_at_once_and_users_take_turns(self):
        with FakeOpenAi(first_delay_s=0.05) as server:
            document, out = self.measure(server, *SMALL, "--concurrency", "3")
        self.assertEqual(server.most_at_once, 3)
        turns = [row["turn"] for row in sorted(document["runs"][0]["requests"], key=lambda row: row["sent_s"])]
        self.assertEqual([turn.endswith("round 1") for turn in turns], [True] * 4 + [False] * 8)
        self.assertTrue(all(row["due_s"] == row["sent_s"] for row in document["runs"][0]["requests"]))
        self.assertNotIn("from when it was due", out)

    def test_late_answers_are_seen_from_when_requests_were_due(self):
        with FakeOpenAi(first_delay_s=0.1) as server:
            document, out = self.measure(server, *SMALL[2:], "--users", "1", "--qps", "50")
        latency = document["runs"][0]["summary"]["latency_s"]
        self.assertGreaterEqual(latency["ttft_from_due"]["max"], 0.3 - 2 / 50, "the third waits for the two before it")
        self.assertLess(latency["ttft"]["p50"], latency["ttft_from_due"]["p50"])
        self.assertIn("from when it was due", out)

    def test_the_duration_ends_it_and_users_begin_anew(self):
        with FakeOpenAi() as server:
            document, _ = self.measure(server, *FAST, "--duration", "1s")
        rows = document["runs"][0]["requests"]
        self.assertGreater(len(rows), 12)
        self.assertLess(max(row["due_s"] for row in rows), 1.0)

    def test_failures_are_counted_by_kind_and_hide_nothing(self):
        kinds = {1: "500", 3: "die", 5: "hang", 7: "garbage", 8: "500"}
        with FakeOpenAi(behave=lambda request: kinds.get(request["number"], "ok")) as server:
            document, out = self.measure(server, *SMALL, "--concurrency", "1", "--timeout", "1500ms", "--ttft-slo", "10", "--itl-slo", "10")
        summary = document["runs"][0]["summary"]
        self.assertEqual({error["kind"]: error["count"] for error in summary["errors"]}, {"HTTP 500": 2, "cut off": 1, "timeout": 1, "bad stream": 1})
        self.assertEqual((summary["answered"], summary["failed"], summary["goodput"]["met"]), (7, 5, 7))
        self.assertIn("2 x HTTP 500; the first: HTTP 500: the engine is tired", out)
        self.assertEqual(summary["prompt_length"]["off_max"], 0, "what was not answered is asked again with the next turn")

    def test_a_server_that_answers_nothing(self):
        with FakeOpenAi(behave=lambda request: "500") as server:
            document, _ = self.measure(server, *FAST, status=1)
        self.assertEqual(document["runs"][0]["summary"]["failed"], 12)

    def test_the_bound_of_the_open_loop(self):
        with FakeOpenAi(first_delay_s=0.05) as server:
            self.measure(server, *FAST, "--most-in-flight", "2")
        self.assertEqual(server.most_at_once, 2)

    def test_hits_by_metrics(self):
        counts = iter((100, 700))
        with FakeOpenAi(metrics=lambda: f"vllm:prefix_cache_queries_total 0\nllamacpp:prompt_tokens_total {next(counts)}\n") as server, \
             FakeOpenAi(metrics=lambda: f'tiercel_matched_blocks_total {len(server.requests)}\ntiercel_missed_blocks_total 4\n') as service:
            document, out = self.measure(server, *FAST, "--tiercel", service.url)
        (run,) = document["runs"]
        self.assertEqual(run["engine_hits"]["computed"]["computed_tokens"], 600)
        self.assertEqual((run["tiercel_hits"]["matched_blocks"], run["tiercel_hits"]["ratio"]), (12, 1.0))
        self.assertIn("100.0% of blocks matched in Tiercel", out)


class Traces(Case):
    def test_order_times_and_lengths(self):
        lines = [{"timestamp": 1000 + 1000 * place, "input_length": 40 * (place + 2), "output_length": 3, "hash_ids": list(range(place + 2))}
                 for place in range(5)]
        path = self.path("t.jsonl")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        with FakeOpenAi() as server:
            document, out = self.measure(server, "--trace", path, "--speed", "20", "--block-tokens", "40")
            self.assertEqual([request["tokens"] for request in server.requests], [80, 120, 160, 200, 240])
            self.assertEqual([request["cached"] for request in server.requests], [0, 80, 112, 160, 192])
            rows = document["runs"][0]["requests"]
            self.assertEqual([round(row["due_s"], 6) for row in rows], [0, 0.05, 0.1, 0.15, 0.2])
            self.assertTrue(all(row["sent_s"] >= row["due_s"] for row in rows))
            self.assertIn("5 requests, blocks of 40 tokens, at 20 times its speed", out)
            del server.requests[:]
            self.measure(server, "--trace", path, "--concurrency", "1", "--limit", "3", "--token-scale", "0.5", "--block-tokens", "40")
            self.assertEqual([request["tokens"] for request in server.requests], [40, 60, 80])


class TwoOfThem(Case):
    def test_two_servers_in_one_run(self):
        with FakeOpenAi(first_delay_s=0.15) as slow, FakeOpenAi(first_delay_s=0.005) as fast:
            for rate in (["--concurrency", "2"], ["--qps", "60"]):
                document, out = self.measure(slow, "--versus", fast.url, *SMALL, *rate, "--fixed-answers")
                self.assertEqual([run["endpoint"] for run in document["runs"]], [slow.url, fast.url])
                self.assertEqual(sorted(request["prompt"] for request in slow.requests), sorted(request["prompt"] for request in fast.requests))
                found = document["comparison"]["ttft"]
                self.assertEqual(found["pairs"], 12)
                self.assertTrue(0 < found["low"] <= found["ratio"] <= found["high"] < 1, found)
                self.assertRegex(out, rf"{fast.url} against {slow.url}:\ntime to first token .* times sooner")
                del slow.requests[:], fast.requests[:]

    def test_neither_is_always_first(self):
        order = []
        with FakeOpenAi(behave=lambda request: order.append("a") or "ok") as first, \
             FakeOpenAi(behave=lambda request: order.append("b") or "ok") as second:
            self.measure(first, "--versus", second.url, *SMALL, "--concurrency", "1")
            self.assertEqual("".join(order), "abba" * 6)
            document, _ = self.measure(first, "--versus", second.url, *FAST)
        due = [min(row["due_s"] for row in run["requests"]) for run in document["runs"]]
        self.assertAlmostEqual(due[1] - due[0], 0.5 / 200, msg="in the middle between two of the first server's")

    def test_two_runs(self):
        paths = [self.path(name) for name in ("slow.json", "fast.json")]
        for path, delay in zip(paths, (0.15, 0.005)):
            with FakeOpenAi(first_delay_s=delay) as server:
                self.assertEqual(self.run_main("--endpoint", server.url, *FAST, "--json", path)[0], 0)
        status, out, _ = self.run_main("--compare", *paths, "--json", self.path("both.json"), "--svg", self.path("both.svg"))
        self.assertEqual(status, 0)
        self.assertRegex(out, r"fast.json against .*slow.json:\ntime to first token .*12 pairs.* times sooner")
        with open(self.path("both.json"), encoding="utf-8") as file:
            self.assertLess(json.load(file)["comparison"]["ttft"]["high"], 1)
        with open(self.path("x"), "w", encoding="utf-8") as file:
            file.write("{}")
        status, _, err = self.run_main("--compare", paths[0], self.path("x"))
        self.assertEqual((status, err), (1, f"error: {self.path('x')}: not what `tiercel bench serving --json` writes\n"))


class Document(Case):
    def test_json_on_stdout_is_all_that_is_there(self):
        with FakeOpenAi() as server:
            status, out, _ = self.run_main("--endpoint", server.url, *FAST, "--json", "-")
        document = json.loads(out)
        self.assertEqual((status, document["format"], document["version"], document["interrupted"]), (0, "tiercel bench serving", 1, False))
        self.assertLessEqual({"title", "started_at", "options", "runs", "comparison"}, set(document))
        (run,) = document["runs"]
        self.assertEqual(set(run), {"endpoint", "model", "given_up", "summary", "engine_hits", "tiercel_hits", "calibration", "requests"})
        self.assertEqual(set(run["requests"][0]), {"turn", "due_s", "sent_s", "first_s", "ended_s", "token_time_s", "longest_gap_s", "asked_tokens",
                                                   "prompt_tokens", "cached_tokens", "output_tokens", "error"})
        self.assertEqual(set(run["summary"]), {"requests", "answered", "failed", "errors", "span_s", "latency_s", "inter_token_s",
                                               "time_per_output_token_s", "requests_per_s", "prompt_tokens_per_s", "output_tokens_per_s", "goodput",
                                               "prompt_length", "hits"})


class Mistakes(Case):
    def test_a_sentence_names_the_flag_the_value_and_what_would_be_right(self):
        at = ["--endpoint", "http://127.0.0.1:1"]
        for words, sentence in (
                ([], "--endpoint is missing; give the server's address"),
                (["--endpoint", "ftp://x"], "--endpoint ftp://x: no address"),
                (["--endpont", "x"], "unknown option --endpont; did you mean --endpoint?"),
                (["--endpoint"], "--endpoint: its value is missing"),
                ([*at, "--qps", "0"], "--qps 0: not a number above 0"),
                ([*at, "--qps", "nan"], "--qps nan: not a number"),
                ([*at, "--users", "many"], "--users many: not a whole number from 1"),
                ([*at, "--timeout", "5x"], "--timeout 5x: not a time above 0"),
                ([*at, "--scenario", "long"], "--scenario invalid choice: 'long' (choose from"),
                ([*at, "--qps", "1", "--concurrency", "2"], "--qps and --concurrency"),
                ([*at, "--speed", "2"], "--speed is of a trace"),
                ([*at, "--trace", "t", "--users", "2"], "--users is of a scenario"),
                ([*at, "--trace", "t", "--speed", "2", "--concurrency", "1"], "--speed and --concurrency"),
                ([*at, "--versus-model", "m"], "--versus names none"),
                ([*at, "--scenario", "sharegpt", "--rounds", "3"], "--rounds: the lengths of sharegpt are drawn"),
                ([*at, "--history-tokens", "0", "--question-tokens", "0"], "--question-tokens 0: without a history"),
                ([*at, "--token-scale", "2", "--trace", "t"], "--token-scale 2: not a number above 0, at most 1"),
                (["--compare", "a"], "--compare: its value is missing"),
                (["--compare", "a", "b", *at], "leave --endpoint out"),
                ([*at, "--json", "/nowhere/x.json"], "--json /nowhere/x.json: /nowhere is no folder")):
            status, out, err = self.run_main(*words)
            self.assertEqual((status, out), (64, ""), words)
            self.assertIn(sentence, err)
            self.assertTrue(err.startswith("error: ") and err.count("\n") == 1, err)

    def test_a_server_that_is_not_there_or_no_server(self):
        with FakeOpenAi() as server:
            pass
        self.assertEqual(self.run_main("--endpoint", server.url)[::2], (1, f"error: {server.url}: no connection: connection refused\n"))
        with FakeOpenAi() as server:
            status, _, err = self.run_main("--endpoint", f"{server.url}/elsewhere")
            self.assertEqual((status, err), (1, f"error: {server.url}/elsewhere: /v1/models answers HTTP 404: '{{}}'\n"))
            status, _, err = self.run_main("--endpoint", server.url, "--tiercel", server.url)
            self.assertEqual((status, err), (1, f"error: --tiercel {server.url}: no metrics of a Tiercel service there\n"))
            status, _, err = self.run_main("--endpoint", server.url, "--trace", self.path("none"))
            self.assertEqual((status, err), (1, f"error: {self.path('none')}: No such file or directory\n"))


class Ends(Case):
    def test_an_interrupt_prints_what_was_measured(self):
        with FakeOpenAi(behave=lambda request: "ok" if request["number"] < 5 else "hang") as server:
            words = [sys.executable, "-m", "tiercel.bench_serving", "--endpoint", server.url, *SMALL, "--concurrency", "1",
                     "--json", self.path("i.json")]
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            end = time.monotonic() + 30
            while len(server.requests) < 6 and time.monotonic() < end:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn("interrupted", out)
        self.assertIn("5 of 5 answered", out)
        self.assertIn("1 in flight were given up", out)
        with open(self.path("i.json"), encoding="utf-8") as file:
            self.assertTrue(json.load(file)["interrupted"])


class Shown(unittest.TestCase):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def test_a_bar_on_a_terminal_and_lines_elsewhere(self):
        bar, lines = self.Terminal(), io.StringIO()
        for stream in (bar, lines):
            progress = Progress(4, None, stream)
            progress.ended(False, 2)
            progress.close()
        self.assertTrue(re.search(r"\r\x1b\[K█+░+ 1/4 requests, 0 failed, 2 in flight, 0 s\r\x1b\[K$", bar.getvalue()), repr(bar.getvalue()))
        self.assertEqual(lines.getvalue(), "", "a line each 10 s")


if __name__ == "__main__":
    unittest.main()
