#!/usr/bin/env python3
"""Goal: one request of `tiercel bench serving` is timed rightly, and whatever a server does, it is an outcome with a kind, in time."""

import asyncio
import unittest

from fake_openai import FakeOpenAi

from tiercel.bench_serving.http_exchange import Endpoint, RequestFailed, call
from tiercel.bench_serving.openai_client import MOST_EVENT_BYTES, OpenAiClient, events, model_names


def ask(server, *, chat=False, tokens=5, timeout_s=20.0, prompt="The quick fox"):
    client = OpenAiClient(Endpoint.parse(server.url), "fake", chat, timeout_s)
    return asyncio.run(client.ask([{"role": "user", "content": prompt}] if chat else prompt, tokens))


class Timing(unittest.TestCase):
    def test_each_piece_of_text_has_its_time(self):
        with FakeOpenAi(first_delay_s=0.12, token_delay_s=0.03) as server:
            for chat in (False, True):
                answer = ask(server, chat=chat)
                self.assertEqual((answer.error, answer.text, answer.output_tokens), ("", " w0 w1 w2 w3 w4", 5))
                self.assertEqual(len(answer.arrivals), 5, "the chunk that only says the role is no token")
                self.assertGreaterEqual(answer.arrivals[0] - answer.sent, 0.12)
                # The first may be seen late on a busy machine, and the last not before it was sent.
                self.assertGreaterEqual(answer.arrivals[-1] - answer.sent, 0.12 + 4 * 0.03)
                self.assertLess(answer.arrivals[0], answer.arrivals[-1])
                self.assertEqual(answer.arrivals, sorted(answer.arrivals))
                self.assertGreaterEqual(answer.ended, answer.arrivals[-1])
                self.assertEqual(answer.prompt_tokens, server.requests[-1]["tokens"])

    def test_it_asks_for_usage_and_for_all_tokens(self):
        with FakeOpenAi() as server:
            client = OpenAiClient(Endpoint.parse(server.url, (("Authorization", "Bearer x"),)), "fake", False, 20.0, {"ignore_eos": True})
            asyncio.run(client.ask("The", 3))
        request = server.requests[0]
        self.assertEqual((request["stream_options"], request["max_tokens"], request["ignore_eos"]), ({"include_usage": True}, 3, True))


class Failures(unittest.TestCase):
    def assert_fails(self, how, kind, words, **options):
        with FakeOpenAi(behave=lambda request: how) as server:
            answer = ask(server, **options)
        self.assertEqual(answer.error_kind, kind, answer.error)
        self.assertIn(words, answer.error)
        self.assertGreaterEqual(answer.ended, answer.sent)
        return answer

    def test_a_server_that_hangs(self):
        self.assert_fails("hang", "timeout", "no whole answer in 0.3 s", timeout_s=0.3)

    def test_a_stream_that_stalls_keeps_what_came(self):
        self.assertEqual(len(self.assert_fails("stall", "timeout", "1 s", timeout_s=1).arrivals), 2)

    def test_a_server_that_dies_in_mid_stream(self):
        self.assert_fails("die", "cut off", "")

    def test_a_stream_without_its_end(self):
        self.assert_fails("no end", "cut off", "without [DONE]")

    def test_garbage_in_the_stream(self):
        self.assert_fails("garbage", "bad stream", "no server-sent event")
        self.assert_fails("half JSON", "bad stream", "not JSON")
        self.assert_fails("not a completion", "bad stream", "no completion")

    def test_errors_are_told_in_the_servers_words(self):
        self.assert_fails("500", "HTTP 500", "HTTP 500: the engine is tired")
        self.assert_fails("error", "error in stream", "out of blocks")

    def test_no_token_is_no_answer(self):
        self.assert_fails("empty", "no token", "no token")

    def test_what_speaks_another_protocol(self):
        self.assert_fails("not HTTP", "not HTTP", "HTTP/1.1")

    def test_nobody_there(self):
        with FakeOpenAi() as server:
            pass
        answer = ask(server)
        self.assertEqual((answer.error_kind, answer.error), ("no connection", "no connection: connection refused"))
        with self.assertRaisesRegex(RequestFailed, "connection refused"):
            asyncio.run(model_names(Endpoint.parse(server.url)))

    def test_short_calls_end_too(self):
        async def never(reader, writer):
            await reader.read()

        async def run():
            server = await asyncio.start_server(never, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            with self.assertRaisesRegex(RequestFailed, "/metrics: no answer in 0.2 s"):
                await call(Endpoint.parse(f"http://127.0.0.1:{port}"), "GET", "/metrics", seconds=0.2)
            server.close()

        asyncio.run(run())


class Events(unittest.TestCase):
    def read(self, *pieces):
        async def given():
            for piece in pieces:
                yield piece

        async def run():
            return [event async for event in events(given())]

        return asyncio.run(run())

    def test_however_they_are_cut(self):
        stream = b': hello\r\n\r\nevent: x\ndata: {"a":1}\n\ndata:b\r\ndata: c\r\n\r\ndata: [DONE]\n\n'
        whole = [b'{"a":1}', b"b\nc", b"[DONE]"]
        self.assertEqual(self.read(stream), whole)
        for cut in range(len(stream)):
            self.assertEqual(self.read(stream[:cut], stream[cut:]), whole, cut)

    def test_the_end_mark_may_lack_its_empty_line(self):
        self.assertEqual(self.read(b"data: [DONE]\n"), [b"[DONE]"])

    def test_what_does_not_end_is_refused(self):
        with self.assertRaisesRegex(RequestFailed, "in mid-event"):
            self.read(b"data: {")
        with self.assertRaisesRegex(RequestFailed, "more than 4 MiB"):
            self.read(b"data: ", *[b"x" * (1 << 16)] * (MOST_EVENT_BYTES // (1 << 16) + 1))


class Addresses(unittest.TestCase):
    def test_with_and_without_a_path(self):
        for text, root in (("http://a:1", ""), ("a:1", ""), ("http://a:1/v1", ""), ("http://a:1/v1/", ""), ("http://a:1/x/v1", "/x")):
            endpoint = Endpoint.parse(text)
            self.assertEqual((endpoint.host, endpoint.port, endpoint.root), ("a", 1, root), text)
        self.assertEqual(Endpoint.parse("https://a").port, 443)
        self.assertEqual(Endpoint.parse("http://[::1]:8").authority, "[::1]:8")

    def test_what_is_none(self):
        for text in ("ftp://a", "http://", "http://a:b", "http://a:99999", "http://u:p@a", "http://a?x=1"):
            with self.assertRaises(ValueError, msg=text):
                Endpoint.parse(text)


if __name__ == "__main__":
    unittest.main()
