from __future__ import annotations

import contextlib
import threading
import time
import unittest
from collections.abc import Callable, Iterator

from chat_load.client import Endpoint
from chat_load.conversation import SYSTEM_PROMPT, LoadShape, build_load
from chat_load.corpus import read_documents
from chat_load.runner import Runner, RunResult, differing_answers
from chat_load.testing.fake_openai import FakeOpenAi

SHAPE = LoadShape(users=4, rounds=3, slots=2, history_tokens=200)


class RunnerTest(unittest.TestCase):
    def serve(self, behaviour: Callable[[int], str] | None = None) -> FakeOpenAi:
        server = FakeOpenAi(behaviour)
        server.start()
        self.addCleanup(server.stop)
        return server

    def runner(self, server: FakeOpenAi, shape: LoadShape = SHAPE, **more: object) -> Runner:
        return Runner(build_load(shape, read_documents()), Endpoint("127.0.0.1", server.port, timeout_s=20), **more)  # type: ignore[arg-type]

    def test_every_user_asks_once_a_round_and_feeds_back_its_own_answers(self) -> None:
        server = self.serve()
        result = self.runner(server).run_rounds()
        self.assertEqual(result.failures, [])
        self.assertEqual(sorted((turn.round, turn.user) for turn in result.turns), [(r, u) for r in range(3) for u in range(4)])
        last = max(server.requests, key=lambda request: len(request["messages"]))["messages"]
        self.assertEqual([message["role"] for message in last], ["system", "user", "assistant", "user", "assistant", "user"])
        self.assertEqual(last[0]["content"], SYSTEM_PROMPT)
        self.assertEqual(last[2]["content"], result.turns[0].answer.text)

    def test_rounds_follow_each_other(self) -> None:
        server = self.serve()
        self.runner(server, LoadShape(users=4, rounds=3, slots=1, history_tokens=200)).run_rounds()
        self.assertEqual([len(request["messages"]) for request in server.requests], [2] * 4 + [4] * 4 + [6] * 4)

    def test_as_many_in_flight_as_slots_and_never_more(self) -> None:
        both = threading.Barrier(2, timeout=20)

        def meet(_: int) -> str:
            both.wait()  # holds each request until a second one is there: fails if only one is ever in flight
            return "whole"

        server = self.serve(meet)
        result = self.runner(server).run_rounds()
        self.assertEqual(result.failures, [])
        self.assertEqual(server.most_in_flight, 2)

    def test_a_user_waits_for_the_own_answer_even_when_a_slot_is_free(self) -> None:
        shape = LoadShape(users=1, rounds=3, slots=2, history_tokens=200)
        company = threading.Barrier(2)

        def wait_for_company(number: int) -> str:
            if number == 1:  # time for a second request to come, if one would
                with contextlib.suppress(threading.BrokenBarrierError):
                    company.wait(0.3)
            return "whole"

        server = self.serve(wait_for_company)
        self.assertEqual(self.runner(server, shape).run_rounds().failures, [])
        self.assertEqual(server.most_in_flight, 1)
        self.assertEqual([len(request["messages"]) for request in server.requests], [2, 4, 6])

    def test_returning_rounds_are_told_apart(self) -> None:
        result = self.runner(self.serve()).run_rounds()
        self.assertEqual((result.ttft.count, result.ttft_first.count, result.ttft_returning.count), (12, 4, 8))
        self.assertEqual(result.computed_tokens + result.reused_tokens, result.prompt_tokens)
        self.assertGreater(result.reused_tokens, 0)

    def test_one_broken_stream_fails_the_run_and_stops_it(self) -> None:
        runners: list[Runner] = []

        def cut_the_third(number: int) -> str:
            if number > 3:  # answered only when the run knows of the failure: how fast it notices is not the question
                while not runners[0].result.failures:  # the client's own limit is one of them, so this ends
                    threading.Event().wait(0.01)
            return "cut" if number == 3 else "whole"

        server = self.serve(cut_the_third)
        runners.append(self.runner(server))
        result = runners[0].run_rounds()
        self.assertEqual(len(result.failures), 1)
        self.assertRegex(result.failures[0], r"user \d, round 1: (answer cut off|connection broken)")
        self.assertLess(len(server.requests), 6)
        self.assertLess(len(result.turns), 12)

    def test_a_refused_request_fails_the_run(self) -> None:
        result = self.runner(self.serve(lambda number: "busy" if number == 5 else "whole")).run_rounds()
        self.assertRegex(result.failures[0], "HTTP 429: the queue is full")

    def test_rounds_can_be_ended_early_by_a_generator(self) -> None:
        def two() -> Iterator[int]:
            yield from (0, 1)

        self.assertEqual(len(self.runner(self.serve()).run_rounds(two()).turns), 8)

    def test_a_generator_that_fails_is_a_failure_of_the_run(self) -> None:
        def bad() -> Iterator[int]:
            yield 0
            raise ZeroDivisionError

        self.assertRegex(self.runner(self.serve()).run_rounds(bad()).failures[0], "ZeroDivisionError")

    def test_rounds_one_at_a_time_go_on_with_the_conversation(self) -> None:
        server = self.serve()
        runner = self.runner(server)
        for round_index in range(3):
            runner.run_rounds([round_index])
        self.assertEqual(len(runner.result.turns), 12)
        self.assertEqual(len(server.requests[-1]["messages"]), 6)

    def test_a_branch_goes_on_with_the_conversations_and_leaves_the_first_run_alone(self) -> None:
        first, second = self.serve(), self.serve()
        runner = self.runner(first)
        runner.run_rounds([0, 1])
        result = runner.branch(Endpoint("127.0.0.1", second.port, timeout_s=20)).run_one_turn_each([0, 2])
        self.assertEqual(sorted((turn.user, turn.round) for turn in result.turns), [(0, 2), (2, 2)])
        self.assertEqual([len(request["messages"]) for request in second.requests], [6, 6])
        self.assertEqual((len(runner.result.turns), runner.next_round(0), len(first.requests)), (8, 2, 8))

    def test_a_branch_asks_again_what_was_not_answered(self) -> None:
        shape = LoadShape(users=2, rounds=2, slots=1, history_tokens=200)
        runner = self.runner(self.serve(lambda number: "cut" if number == 4 else "whole"), shape)
        runner.run_rounds()
        self.assertEqual([runner.next_round(user) for user in range(2)], [2, 1])
        again = self.serve()
        runner.branch(Endpoint("127.0.0.1", again.port, timeout_s=20)).run_one_turn_each([1])
        self.assertEqual([message["role"] for message in again.requests[0]["messages"]], ["system", "user", "assistant", "user"])

    def test_requests_under_way_are_those_of_the_others(self) -> None:
        both = threading.Barrier(2, timeout=20)
        done = threading.Event()
        seen: list[int] = []

        def first_answered_alone(number: int) -> str:
            if number <= 2:
                both.wait()
            if number == 2:
                done.wait(20)
            return "whole"

        def progress(result: RunResult) -> None:
            seen.append(runner.under_way)
            done.set()

        runner = self.runner(self.serve(first_answered_alone), LoadShape(users=2, rounds=1, slots=2, history_tokens=200), progress=progress)
        self.assertEqual(runner.run_rounds().failures, [])
        self.assertEqual(seen, [1, 0])

    def test_progress_is_told_after_each_answer(self) -> None:
        seen: list[int] = []

        def progress(result: RunResult) -> None:
            seen.append(len(result.turns))

        self.runner(self.serve(), progress=progress).run_rounds()
        self.assertEqual(seen, list(range(1, 13)))

    def test_a_passed_deadline_ends_the_run(self) -> None:
        result = self.runner(self.serve(), deadline=time.monotonic() - 1).run_rounds()
        self.assertRegex(result.failures[0], "time limit")
        self.assertEqual(result.turns, [])

    def test_same_answers_do_not_differ(self) -> None:
        first, second = (self.runner(self.serve()).run_rounds() for _ in range(2))
        self.assertEqual(differing_answers(first, second), 0)
        second.turns.pop()
        first.turns[0], first.turns[1] = first.turns[1], first.turns[0]
        self.assertEqual(differing_answers(first, second), 0)


if __name__ == "__main__":
    unittest.main()
