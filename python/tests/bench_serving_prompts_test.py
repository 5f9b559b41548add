#!/usr/bin/env python3
"""Goal: prompts have the tokens that were asked for as the server counts them, equal names give equal text, and traces become the
requests that they hold: lengths, order, times, and what they share."""

import asyncio
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from fake_openai import BEGIN, FakeOpenAi

from tiercel.bench_serving import scenarios, trace
from tiercel.bench_serving.calibration import measure_cost
from tiercel.bench_serving.http_exchange import Endpoint
from tiercel.bench_serving.load import Conversation, Target
from tiercel.bench_serving.openai_client import Answer, OpenAiClient
from tiercel.bench_serving.scenarios import SCENARIOS, Pace, Scenario
from tiercel.bench_serving.words import COMMON, Piece, Words, shorten, tokens_of


def target_of(server, chat=False, seed=1):
    client = OpenAiClient(Endpoint.parse(server.url), "fake", chat, 20.0)
    cost = asyncio.run(measure_cost(client))
    return Target("fake", client, cost, Words(cost.words, seed, cost.tokens_per_word))


class Text(unittest.TestCase):
    def test_a_name_is_a_text(self):
        words, again, other = Words(COMMON, 1), Words(COMMON, 1), Words(COMMON, 2)
        self.assertEqual(words.text(Piece("a", 50)), again.text(Piece("a", 50)))
        self.assertNotEqual(words.text(Piece("a", 50)), words.text(Piece("b", 50)))
        self.assertNotEqual(words.text(Piece("a", 50)), other.text(Piece("a", 50)))
        self.assertTrue(words.text(Piece("a", 50)).startswith(words.text(Piece("a", 20))))
        self.assertEqual(len(words.text(Piece("a", 777)).split()), 777)

    def test_the_words_differ_and_are_enough(self):
        self.assertEqual(len(COMMON), len(set(COMMON)))
        self.assertGreaterEqual(len(COMMON), 256)

    def test_shortening_moves_no_later_piece(self):
        pieces = [Piece("a", 5), Piece("b", 5), Piece("c", 5)]
        self.assertEqual(shorten(pieces, 0), tuple(pieces))
        self.assertEqual(shorten(pieces, 3), (Piece("a", 2), *pieces[1:]))
        self.assertEqual(shorten(pieces, 7), (Piece("b", 3), Piece("c", 5)))
        self.assertEqual(shorten(pieces, 99), (Piece("a", 1),), "one word is left")


class Lengths(unittest.TestCase):
    def test_words_of_two_tokens_are_found_and_left_out(self):
        for tokenize, counted_by in (("", "usage"), ("vllm", "/tokenize"), ("llama.cpp", "/tokenize")):
            with FakeOpenAi(expensive="b", tokenize=tokenize) as server:
                cost = target_of(server).cost
            self.assertEqual((cost.counted_by, cost.tokens_per_word, cost.frame), (counted_by, 1, BEGIN + 1))
            self.assertEqual(sorted(cost.words), sorted(word for word in COMMON[:256] if not word.startswith("b")))

    def test_prompts_have_the_tokens_that_were_asked_for(self):
        shape = Scenario("x", users=1, rounds=4, system_tokens=40, history_tokens=300, question_tokens=30, answer_tokens=10, qps=1)
        for chat, system, fixed in itertools.product((False, True), (40, 0), (False, True)):
            with FakeOpenAi(expensive="c") as server:
                target = target_of(server, chat)
                conversation = Conversation(target, fixed)
                turns = list(scenarios.script(Scenario(**{**vars(shape), "system_tokens": system}), 0, Pace(None, 0), 1, False))
                planned = system + 300
                for turn in turns:
                    prompt, asked = conversation.prompt(turn)
                    planned += 30
                    answer = asyncio.run(target.client.ask(prompt, 10))
                    self.assertEqual((asked, answer.prompt_tokens), (planned, planned), (chat, system, fixed, turn.name))
                    conversation.answered(turn, answer, answer.output_tokens)
                    planned += 10
                self.assertEqual(len(turns), 4)

    def test_a_failed_turn_is_asked_again_with_the_next(self):
        with FakeOpenAi() as server:
            target = target_of(server, chat=True)
            conversation = Conversation(target, fixed_answers=False)
            first, second = (scenarios.Turn(f"{place}", (Piece(f"{place}", 50),), 5, fresh=place == 0) for place in range(2))
            conversation.prompt(first)
            conversation.answered(first, Answer(error_kind="timeout"), 0)
            prompt, asked = conversation.prompt(second)
            self.assertEqual([message["role"] for message in prompt], ["user"])
            self.assertEqual((asked, asyncio.run(target.client.ask(prompt, 5)).prompt_tokens), (100, 100))

    def test_fixed_answers_do_not_depend_on_the_server(self):
        with FakeOpenAi() as server:
            target = target_of(server)
            prompts = []
            for text in (" one", " two three"):
                conversation = Conversation(target, fixed_answers=True)
                first, second = scenarios.script(Scenario("x", 1, 2, 0, 50, 10, 20, 1), 0, Pace(None, 0), 1, False)
                conversation.prompt(first)
                conversation.answered(first, Answer(text=text), 2)
                prompts.append(conversation.prompt(second))
            self.assertEqual(prompts[0], prompts[1])
            self.assertEqual(prompts[0][1], 50 + 10 + 20 + 10)

    def test_where_few_words_are_one_token_lengths_are_near(self):
        with FakeOpenAi() as server:
            server.tokens = lambda text: [half for word in text.split() for half in (word, "+")]
            target = target_of(server)
            self.assertEqual(target.cost.tokens_per_word, 2)
            prompt, asked = Conversation(target, False).prompt(scenarios.Turn("x", (Piece("a", 500),), 5))
            self.assertAlmostEqual(asyncio.run(target.client.ask(prompt, 5)).prompt_tokens, asked, delta=4)


class Scenarios(unittest.TestCase):
    def test_turns_of_an_open_loop_come_at_the_rate(self):
        shape, pace = SCENARIOS["long-short"], Pace(0.5, 30.0)
        due = sorted(turn.due_s for script in scenarios.scripts(shape, pace, 1, False) for turn in script)
        self.assertEqual(len(due), 15 * 20)
        self.assertEqual([round(at, 6) for at in due], [2.0 * place for place in range(300)])

    def test_users_share_the_system_prompt_and_nothing_else(self):
        first = [next(script) for script in scenarios.scripts(SCENARIOS["long-short"], Pace(None, 0), 1, False)]
        self.assertEqual(len({turn.system for turn in first}), 1)
        self.assertEqual(len({turn.said[0].name for turn in first}), 15)
        self.assertEqual(tokens_of(first[0].system) + tokens_of(first[0].said), 1000 + 20000 + 20)

    def test_who_is_through_begins_a_new_conversation(self):
        script = scenarios.script(Scenario("x", 1, 2, 5, 5, 5, 5, 1), 0, Pace(1.0, 0.0), 1, endless=True)
        turns = [next(script) for _ in range(5)]
        self.assertEqual([turn.fresh for turn in turns], [True, False, True, False, True])
        self.assertEqual(len({turn.said[0].name for turn in turns}), 5)
        self.assertEqual([turn.due_s for turn in turns], [0, 1, 2, 3, 4])

    def test_sharegpt_lengths_follow_their_distribution(self):
        shape = Scenario(**{**vars(SCENARIOS["sharegpt"]), "users": 800})
        turns = [turn for script in scenarios.scripts(shape, Pace(None, 0), 1, False) for turn in script]
        first = sorted(tokens_of(turn.said) for turn in turns if turn.fresh)
        later = sorted(tokens_of(turn.said) for turn in turns if not turn.fresh)
        answers = sorted(turn.answer_tokens for turn in turns)
        for values, (median, sigma, least, most) in ((first, scenarios.FIRST), (later, scenarios.LATER), (answers, scenarios.ANSWER)):
            self.assertAlmostEqual(values[len(values) // 2], median, delta=median * 0.12)
            self.assertAlmostEqual(values[len(values) // 6] / median, math.exp(-0.97 * sigma), delta=0.1)
            self.assertTrue(least <= values[0] and values[-1] <= most)
        self.assertAlmostEqual(len(turns) / 800, 5.6, delta=0.3)


class Traces(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def read(self, text, name="t.jsonl", **options):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text if isinstance(text, str) else "".join(json.dumps(line) + "\n" for line in text))
        return trace.read_trace(path, **{"limit": None, "seed": 1, "window_s": 1000.0, "block_tokens": None, **options})

    REQUESTS = [{"timestamp": 0, "input_length": 1100, "output_length": 5, "hash_ids": [0, 1, 2]},
                {"timestamp": 1500, "input_length": 1536, "output_length": 6, "hash_ids": [0, 1, 3], "session_id": 4},
                {"timestamp": 4000, "input_length": 600, "output_length": 7, "hash_ids": [9, 8]}]

    def test_requests_share_what_their_ids_share(self):
        read = self.read(self.REQUESTS)
        turns = list(trace.turns(read, speed=10, token_scale=1))
        self.assertEqual((read.block_tokens, [turn.due_s for turn in turns]), (512, [0.0, 0.15, 0.4]))
        self.assertEqual([turn.answer_tokens for turn in turns], [5, 6, 7])
        words = Words(COMMON, 1)
        texts = [words.texts(turn.said).split() for turn in turns]
        self.assertEqual([len(text) for text in texts], [1100, 1536, 600])
        self.assertEqual(len(os.path.commonprefix(texts[:2])) // 512, 2)
        self.assertEqual(os.path.commonprefix([texts[0], texts[2]])[:3], os.path.commonprefix([texts[0][:3], texts[2][:3]]))
        self.assertLess(len(os.path.commonprefix([texts[0], texts[2]])), 8)

    def test_the_hits_of_a_server_are_those_of_the_ids(self):
        read = self.read(self.REQUESTS)
        with FakeOpenAi() as server:
            target = target_of(server)
            for turn in trace.turns(read, speed=1, token_scale=1):
                asyncio.run(target.client.ask(Conversation(target, False).prompt(turn)[0], turn.answer_tokens))
        self.assertEqual([request["tokens"] for request in server.requests], [1100, 1536, 600])
        self.assertEqual([request["cached"] for request in server.requests], [0, 1024, 0])

    def test_sessions_are_laid_over_each_other(self):
        def session(*times):
            return {"block_size": 64, "requests": [{"t": t, "type": "n", "in": 130, "out": 2, "hash_ids": [1, 2]} for t in times]}

        nested = session(0, 5)
        nested["requests"].insert(1, {"t": 2, "type": "subagent", "requests": session(1, 4000)["requests"]})
        read = self.read([nested, session(7)])
        self.assertEqual((len(read.requests), read.block_tokens), (5, 64))
        times = [request.arrival_s for request in read.requests]
        self.assertEqual(times, sorted(times))
        own = [request.arrival_s for request in read.requests if request.scope == "1."]
        self.assertEqual([round(at - own[0], 6) for at in own], [0, 3, 5, 1805], "sub-agents count from their start, gaps are cut")
        pieces = [trace.pieces_of(request, "r", 64) for request in read.requests]
        self.assertEqual({tokens_of(each) for each in pieces}, {130})
        self.assertEqual(len({each[0].name for each in pieces}), 2, "ids mean something in their session only")

    def test_lengths_alone(self):
        read = self.read(trace.HEADING + "\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:18:04.4799600,3180,0\n", "t.csv")
        turns = list(trace.turns(read, speed=1, token_scale=0.5))
        self.assertEqual([tokens_of(turn.said) for turn in turns], [2404, 1590])
        self.assertEqual([turn.answer_tokens for turn in turns], [5, 1])
        self.assertAlmostEqual(turns[1].due_s, 60.5)

    @unittest.skipUnless(shutil.which("zstd"), "the program zstd is not installed")
    def test_packed(self):
        self.read(self.REQUESTS)
        subprocess.run(["zstd", "-q", os.path.join(self.folder, "t.jsonl")], check=True)
        path = os.path.join(self.folder, "t.jsonl.zst")
        options = {"seed": 1, "window_s": 1.0, "block_tokens": None}
        self.assertEqual(len(trace.read_trace(path, limit=None, **options).requests), 3)
        self.assertEqual(len(trace.read_trace(path, limit=2, **options).requests), 2)
        with open(path, "r+b") as file:
            file.truncate(os.path.getsize(path) - 5)
        with self.assertRaisesRegex(trace.TraceError, "t.jsonl.zst: "):
            trace.read_trace(path, limit=None, **options)

    def test_what_is_wrong_is_told_with_its_place(self):
        row = self.REQUESTS[0]
        for text, words in (("", "no request"), ("hello\n", "t.jsonl:1: neither a JSON object nor the heading"), ("{\n", "t.jsonl:1: "),
                            ([row, {**row, "hash_ids": [-1]}], "t.jsonl:2: hash_ids is not an array of whole numbers"),
                            ([{**row, "timestamp": 5}, row], "t.jsonl:2: its time lies before"), ([{"timestamp": 0}], "input_length is missing"),
                            ([{**row, "input_length": 1.5}], "input_length is not a whole number"), ("[1]\n", "neither"),
                            (trace.HEADING + "\n1,2\n", "t.jsonl:2: not three values")):
            with self.assertRaisesRegex(trace.TraceError, words):
                self.read(text)
        with self.assertRaisesRegex(trace.TraceError, "nothing.jsonl: No such file"):
            trace.read_trace("nothing.jsonl", limit=None, seed=1, window_s=1.0, block_tokens=None)


@unittest.skipUnless(len(sys.argv) > 1 and os.path.isdir(sys.argv[1]), "the folder of recorded traces was not named")
class RecordedTraces(unittest.TestCase):
    def test_each_format(self):
        for name, block in (("mooncake_conversation.jsonl.zst", 512), ("lmcache_agents_64B.jsonl.zst", 16), ("azure_llm_2023_code.csv.zst", None)):
            read = trace.read_trace(os.path.join(FOLDER, name), limit=500, seed=1, window_s=1.0, block_tokens=None)
            self.assertEqual(len(read.requests), 500)
            if block:
                self.assertEqual(read.block_tokens, block, name)
            for turn, request in zip(trace.turns(read, speed=1, token_scale=1), read.requests):
                self.assertEqual(tokens_of(turn.said), request.input_tokens)


FOLDER = sys.argv.pop(1) if len(sys.argv) > 1 and os.path.isdir(sys.argv[1]) else ""

if __name__ == "__main__":
    unittest.main()
