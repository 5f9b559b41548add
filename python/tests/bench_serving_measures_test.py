#!/usr/bin/env python3
"""Goal: the figures of `tiercel bench serving` are what they are called, on outcomes that are made by hand."""

import random
import statistics
import unittest
import xml.etree.ElementTree

from tiercel.bench_serving import server_metrics
from tiercel.bench_serving.comparison import is_difference, median_ratio
from tiercel.bench_serving.load import Outcome
from tiercel.bench_serving.measures import Objectives, distribution, quantile, summarize, token_time_s
from tiercel.bench_serving.plot import Series, ttft_plot
from tiercel.bench_serving.report import compare, comparison_text, latencies_by_turn, run_text, seconds


def outcome(due=0.0, sent=0.0, first=1.0, gaps=(0.1, 0.1), asked=100, prompt=100, cached=0, output=3, error="", turn="t"):
    ended = (sent if error else first) + sum(gaps)
    return Outcome(turn, due, sent, None if error else first, ended, list(gaps), asked, prompt, cached, output, error,
                   f"sentence of {error}" if error else "")


class Quantiles(unittest.TestCase):
    def test_the_smallest_value_that_the_share_does_not_exceed(self):
        values = list(range(1, 101))
        self.assertEqual([quantile(values, share) for share in (0.5, 0.95, 0.99, 1.0)], [50, 95, 99, 100])
        self.assertEqual([quantile([1, 2, 3], share) for share in (0.01, 0.34, 0.5, 0.95)], [1, 2, 2, 3])
        self.assertEqual(distribution([3, 1, 2, 10]), {"count": 4, "mean": 4, "p50": 2, "p95": 10, "p99": 10, "max": 10})
        self.assertIsNone(distribution([]))


class Summary(unittest.TestCase):
    def test_latencies_count_from_when_it_was_sent_and_from_when_it_was_due(self):
        summary = summarize([outcome(due=2.0, sent=5.0, first=6.5)])
        found = {name: round(values["p50"], 9) for name, values in summary["latency_s"].items()}
        self.assertEqual(found, {"ttft": 1.5, "ttft_from_due": 4.5, "end_to_end": 1.7, "end_to_end_from_due": 4.7})

    def test_time_between_tokens(self):
        self.assertAlmostEqual(token_time_s(outcome(gaps=(0.2, 0.4), output=7)), 0.1, msg="several tokens may come in one piece")
        self.assertIsNone(token_time_s(outcome(gaps=(), output=1)))
        summary = summarize([outcome(gaps=(0.1, 0.3)), outcome(gaps=(0.2, 0.9))])
        self.assertEqual([summary["inter_token_s"][name] for name in ("count", "p50", "max")], [4, 0.2, 0.9])

    def test_rates_are_over_the_whole_time_of_the_load(self):
        summary = summarize([outcome(due=10.0, sent=10.0, first=11.0, gaps=(1.0,), output=20),
                             outcome(due=12.0, sent=14.0, first=19.0, gaps=(1.0,), output=30),
                             outcome(due=13.0, sent=13.0, error="timeout", output=1)])
        self.assertAlmostEqual(summary["span_s"], 10.0)
        self.assertAlmostEqual(summary["requests_per_s"], 0.2)
        self.assertAlmostEqual(summary["prompt_tokens_per_s"], 20.0)
        self.assertAlmostEqual(summary["output_tokens_per_s"], 5.0)

    def test_goodput_counts_those_that_meet_both_objectives(self):
        outcomes = [outcome(first=0.5, gaps=(0.1, 0.1)), outcome(first=2.0, gaps=(0.1, 0.1)), outcome(first=0.5, gaps=(0.5, 0.5)),
                    outcome(first=0.5, gaps=(0.1, 0.1), error="timeout"), outcome(sent=0.0, due=-9.0, first=1.0, gaps=(), output=1)]
        met = {(ttft, itl): summarize(outcomes, Objectives(ttft, itl))["goodput"]["met"] for ttft in (None, 1.0) for itl in (None, 0.2)}
        self.assertEqual(met, {(None, None): 4, (1.0, None): 3, (None, 0.2): 3, (1.0, 0.2): 2})
        goodput = summarize(outcomes, Objectives(1.0, 0.2))
        self.assertAlmostEqual(goodput["goodput"]["requests_per_s"], 2 / goodput["span_s"])

    def test_hits_are_weighted_by_length(self):
        summary = summarize([outcome(prompt=100, cached=100), outcome(prompt=300, cached=0), outcome(prompt=50, cached=None),
                             outcome(cached=9, error="x")])
        self.assertEqual(summary["hits"], {"requests": 2, "cached_tokens": 100, "prompt_tokens": 400, "ratio": 0.25})
        self.assertIsNone(summarize([outcome(cached=None)])["hits"], "not said is not 0")

    def test_how_far_prompts_are_off(self):
        length = summarize([outcome(asked=100, prompt=101), outcome(asked=200, prompt=194), outcome(prompt=None)])["prompt_length"]
        self.assertAlmostEqual(length["off_mean"], 0.02)
        self.assertAlmostEqual(length["off_max"], 0.03)
        self.assertEqual((length["tokens"]["count"], length["tokens"]["max"]), (2, 194))

    def test_errors_by_kind(self):
        summary = summarize([outcome(error="timeout"), outcome(), outcome(error="HTTP 500"), outcome(error="timeout")])
        self.assertEqual((summary["requests"], summary["answered"], summary["failed"]), (4, 1, 3))
        self.assertEqual(summary["errors"], [{"kind": "timeout", "count": 2, "first": "sentence of timeout"},
                                             {"kind": "HTTP 500", "count": 1, "first": "sentence of HTTP 500"}])

    def test_nothing_at_all(self):
        summary = summarize([])
        self.assertEqual((summary["requests"], summary["requests_per_s"], summary["latency_s"]["ttft"]), (0, 0.0, None))
        self.assertIn("0 of 0 answered", run_text({"endpoint": "e", "model": "m", "summary": summary}))


class Comparison(unittest.TestCase):
    def test_pairs_cancel_what_makes_requests_differ(self):
        draws = random.Random(1)
        first = {f"{turn}": draws.uniform(0.1, 10) for turn in range(100)}
        second = {turn: value * 0.8 * draws.uniform(0.95, 1.05) for turn, value in first.items()}
        paired = median_ratio(first, second)
        self.assertEqual(paired.pairs, 100)
        self.assertAlmostEqual(paired.ratio, 0.8, delta=0.02)
        self.assertTrue(0.78 < paired.low <= paired.ratio <= paired.high < 0.82 and is_difference(paired), paired)
        unpaired = median_ratio(first, {f"other {turn}": value for turn, value in second.items()})
        self.assertEqual(unpaired.pairs, 0)
        self.assertGreater(unpaired.high - unpaired.low, 5 * (paired.high - paired.low))

    def test_the_interval_is_that_of_resampling(self):
        for n in (30, 31):
            draws = random.Random(2)
            values = {f"{turn}": draws.lognormvariate(0, 1) for turn in range(n)}
            found = median_ratio(dict.fromkeys(values, 1.0), values)
            medians = sorted(statistics.median(draws.choices(list(values.values()), k=n)) for _ in range(4000))
            self.assertAlmostEqual(found.low, quantile(medians, 0.025), delta=0.12)
            self.assertAlmostEqual(found.high, quantile(medians, 0.975), delta=0.2)
            self.assertEqual(found.ratio, statistics.median(values.values()))

    def test_no_difference_is_not_called_one(self):
        draws = random.Random(3)
        runs = [{f"{turn}": draws.gauss(10, 1) for turn in range(50)} for _ in range(80)]
        same = [median_ratio(first, second) for first, second in zip(runs[::2], runs[1::2])]
        self.assertLessEqual(sum(map(is_difference, same)), 6)
        self.assertIn("no difference shown", comparison_text({"ttft": median_ratio({"a": 1.0, "b": 2.0}, {"a": 1.1, "b": 1.9})}, "A", "B"))

    def test_it_says_which_is_sooner(self):
        runs = [latencies_by_turn([*(outcome(first=first * (place + 1), turn=f"{place}") for place in range(9)), outcome(error="x")])
                for first in (1.0, 0.25)]
        ratios = compare(*runs)
        self.assertAlmostEqual(ratios["ttft"].ratio, 0.25)
        self.assertRegex(comparison_text(ratios, "A", "B"), r"B against A:\ntime to first token .*5.00 s -> 1.25 s .* 4.00 times sooner")
        self.assertEqual(compare(runs[0], latencies_by_turn([])), {})


class Metrics(unittest.TestCase):
    TEXT = ('# HELP x y\nvllm:prefix_cache_queries_total{model_name="m",engine="0"} 100\nvllm:prefix_cache_queries_total{engine="1"} 20\n'
            'vllm:prefix_cache_hits_total 30\nvllm:prefix_cache_hits_created 1e9\nvllm:external_prefix_cache_queries_total 50\n'
            'vllm:external_prefix_cache_hits_total 0\nnonsense\nx_bucket{le="1"} 3\n')

    def test_vllm(self):
        after = server_metrics.parse(self.TEXT)
        before = {**dict.fromkeys(after, 0.0), "vllm:prefix_cache_queries": 60.0}
        hits = server_metrics.engine_hits(server_metrics.growth(before, after), 1000)
        self.assertEqual(hits["prefix_cache"], {"queried_tokens": 60, "hit_tokens": 30, "ratio": 0.5})
        self.assertEqual(hits["external_cache"]["ratio"], 0)
        self.assertNotIn("x_bucket", after)

    def test_llama_cpp(self):
        grown = server_metrics.growth({"llamacpp:prompt_tokens": 100.0}, server_metrics.parse("llamacpp:prompt_tokens_total 350\n"))
        self.assertEqual(server_metrics.engine_hits(grown, 1000)["computed"]["ratio"], 0.75)

    def test_tiercel(self):
        after = server_metrics.parse('tiercel_matched_blocks_total 30\ntiercel_missed_blocks_total 10\ntiercel_load_blocks_total{tier="host"} 7\n'
                                     'tiercel_load_blocks_total{tier="disk"} 5\n')
        hits = server_metrics.tiercel_hits(server_metrics.growth(dict.fromkeys(after, 0.0), after))
        self.assertEqual((hits["ratio"], hits["loaded_blocks"]), (0.75, {"host": 7, "disk": 5}))

    def test_a_server_without_them_or_started_again(self):
        self.assertEqual(server_metrics.growth(None, {"a": 1.0}), {})
        self.assertEqual(server_metrics.growth({"a": 5.0}, {"a": 2.0, "b": 1.0}), {"a": 2.0})
        self.assertIsNone(server_metrics.engine_hits({}, 10))
        self.assertIsNone(server_metrics.tiercel_hits({}))


class Shown(unittest.TestCase):
    def test_times(self):
        self.assertEqual([seconds(value) for value in (None, 0.00123, 0.0456, 0.5, 2.345, 250.0)],
                         ["-", "1.23 ms", "45.6 ms", "500 ms", "2.35 s", "250 s"])

    def test_the_plot_is_well_formed_and_has_every_request(self):
        svg = ttft_plot("a < b & c", [Series("A", [0.0, 1.0, 2.0], [0.1, 2.0, 0.3], [1.5]), Series("B", [0.5], [0.2]), Series("none", [], [])])
        tree = xml.etree.ElementTree.fromstring(svg)
        points = [node for node in tree.iter("{http://www.w3.org/2000/svg}circle") if node.get("r") == "2.5"]
        self.assertEqual(len(points), 4)
        heights = [float(node.get("cy")) for node in points[:3]]
        self.assertTrue(heights[1] < heights[2] < heights[0], "later is higher up")
        self.assertIn("3 answered, 1 failed", svg)
        xml.etree.ElementTree.fromstring(ttft_plot("nothing", [Series("A", [], [])]))


if __name__ == "__main__":
    unittest.main()
