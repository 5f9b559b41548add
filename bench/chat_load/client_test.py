from __future__ import annotations

import unittest

from chat_load import metrics, sse
from chat_load.client import Answer, Endpoint, RequestFailed, chat
from chat_load.testing.fake_openai import FakeOpenAi

HELLO = [{"role": "user", "content": "Who is Alice, and why does she follow the rabbit?"}]


class SseTest(unittest.TestCase):
    def read(self, text: bytes) -> list[str]:
        return list(sse.event_data(text.splitlines(keepends=True)))

    def test_events_in_order(self) -> None:
        self.assertEqual(self.read(b"data: one\n\ndata: two\n\n"), ["one", "two"])

    def test_all_line_ends_and_fields(self) -> None:
        self.assertEqual(self.read(b": comment\r\nevent: x\r\nid: 4\r\ndata:one\r\n\r\n"), ["one"])

    def test_several_data_lines_are_one_event(self) -> None:
        self.assertEqual(self.read(b"data: one\ndata: two\n\n"), ["one\ntwo"])

    def test_only_one_space_belongs_to_the_field(self) -> None:
        self.assertEqual(self.read(b"data:   deep\n\n"), ["  deep"])

    def test_an_event_cut_off_by_the_end_is_not_given_out(self) -> None:
        self.assertEqual(self.read(b"data: one\n\ndata: two"), ["one"])
        self.assertEqual(self.read(b"data: one\n\ndata: two\n"), ["one"])


class ClientTest(unittest.TestCase):
    def ask(self, behaviour: str = "whole", max_tokens: int = 8) -> Answer:
        self.server = server = FakeOpenAi(lambda _: behaviour)
        server.start()
        self.addCleanup(server.stop)
        return chat(Endpoint("127.0.0.1", server.port, timeout_s=20), HELLO, max_tokens)

    def assert_fails(self, behaviour: str, words: str) -> None:
        with self.assertRaisesRegex(RequestFailed, words):
            self.ask(behaviour)

    def test_a_whole_answer(self) -> None:
        answer = self.ask()
        self.assertEqual(answer.text, "Down the Rabbit-Hole and onDown the")
        self.assertEqual((answer.completion_tokens, answer.finish_reason, answer.cached_tokens), (8, "length", 0))
        self.assertGreater(answer.prompt_tokens, 8)
        self.assertGreater(answer.ttft_s, 0)
        self.assertGreaterEqual(answer.total_s, answer.ttft_s)

    def test_asks_greedily_with_a_seed_and_for_usage(self) -> None:
        self.ask()
        request = self.server.requests[0]
        self.assertEqual((request["temperature"], request["seed"], request["stream"], request["max_tokens"]), (0, 1, True, 8))
        self.assertEqual(request["stream_options"], {"include_usage": True})

    def test_a_stream_that_breaks_is_no_answer(self) -> None:
        self.assert_fails("cut", "answer cut off|connection broken")

    def test_a_stream_without_its_end_is_no_answer(self) -> None:
        self.assert_fails("no_done", r"no \[DONE\]")
        self.assert_fails("no_finish", "no finish_reason")
        self.assert_fails("no_usage", "no usage")

    def test_an_answer_without_text_is_none(self) -> None:
        self.assert_fails("empty", "no text")

    def test_fewer_tokens_than_the_limit_it_claims_is_no_answer(self) -> None:
        self.assert_fails("short", "7 of 8 tokens")

    def test_other_ends_are_no_answer(self) -> None:
        self.assert_fails("filtered", "content_filter")

    def test_errors_are_told_in_the_servers_words(self) -> None:
        self.assert_fails("busy", "HTTP 429: the queue is full")
        self.assert_fails("error_chunk", "out of cells")
        self.assert_fails("not_json", "half a chu")

    def test_nobody_there(self) -> None:
        self.ask()
        self.server.stop()
        with self.assertRaisesRegex(RequestFailed, "connection broken: ConnectionRefused"):
            chat(Endpoint("127.0.0.1", self.server.port), HELLO, 8)


class MetricsTest(unittest.TestCase):
    TEXT = '# HELP a_total x\na_total{tier="host"} 3\na_total{tier="disk",x="} 1"} 4\nb 1.5e3\nnot a sample\nc{x="\\""} 2 1700000000\na_total_more 9\n'

    def test_samples_by_name_and_labels(self) -> None:
        self.assertEqual(metrics.parse(self.TEXT), {'a_total{tier="host"}': 3.0, 'a_total{tier="disk",x="} 1"}': 4.0, "b": 1500.0, 'c{x="\\""}': 2.0,
                                                    "a_total_more": 9.0})

    def test_totals(self) -> None:
        samples = metrics.parse(self.TEXT)
        self.assertEqual(metrics.total(samples, "a_total"), 7.0)
        self.assertEqual(metrics.total(samples, "a_total", 'tier="disk"'), 4.0)
        self.assertIsNone(metrics.total(samples, "a_total", 'tier="remote"'))
        self.assertIsNone(metrics.total(samples, "d"))

    def test_counters_as_growth_gauges_as_they_are(self) -> None:
        self.assertEqual(metrics.difference({'a_total{x="1"}': 5.0, "b": 1.0}, {'a_total{x="1"}': 7.0, "b": 3.0, "c_total": 2.0}),
                         {'a_total{x="1"}': 2.0, "b": 3.0, "c_total": 2.0})


if __name__ == "__main__":
    unittest.main()
