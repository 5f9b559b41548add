from __future__ import annotations

import unittest
from dataclasses import replace

from chat_load.client import Endpoint
from chat_load.conversation import LoadShape
from chat_load.corpus import read_documents
from chat_load.sizing import SMALLEST_HISTORY, Speed, fit, measure_speed, one_more_round_s, run_seconds, second_act_seconds
from chat_load.testing.fake_openai import FakeOpenAi

NORMAL = Speed(prefill_tokens_per_s=200.0, decode_s_per_token=0.03, chars_per_token=3.7)


def both(shape: LoadShape, speed: Speed) -> float:
    return run_seconds(shape, speed, reuse=False) + run_seconds(shape, speed, reuse=True)


class FitTest(unittest.TestCase):
    def test_the_wanted_load_where_there_is_time(self) -> None:
        self.assertEqual(fit(LoadShape(), NORMAL, 3600.0), replace(LoadShape(), chars_per_token=3.7))

    def test_keeps_to_the_budget_at_every_speed(self) -> None:
        for prefill in range(60, 1000, 20):
            speed = replace(NORMAL, prefill_tokens_per_s=float(prefill))
            for budget in (200.0, 300.0, 500.0):
                try:
                    shape = fit(LoadShape(), speed, budget)
                except ValueError:
                    self.assertLess(prefill, 150)
                    continue
                self.assertLessEqual(both(shape, speed), budget)
                self.assertGreaterEqual(shape.history_tokens, SMALLEST_HISTORY)

    def test_uses_the_budget_up(self) -> None:
        shape = fit(LoadShape(), replace(NORMAL, prefill_tokens_per_s=130.0), 290.0)
        self.assertGreater(both(shape, NORMAL) * 200 / 130, 0.9 * 290)

    def test_shortens_histories_before_it_drops_rounds(self) -> None:
        shape = fit(LoadShape(), replace(NORMAL, prefill_tokens_per_s=130.0), 290.0)
        self.assertEqual(shape.rounds, 4)
        self.assertLess(shape.history_tokens, 1200)

    def test_drops_users_last(self) -> None:
        slow = replace(NORMAL, prefill_tokens_per_s=28.0)
        shape = fit(LoadShape(), slow, 290.0)
        self.assertEqual(shape.rounds, 2)
        self.assertIn(shape.users, (4, 5))
        self.assertLessEqual(both(shape, slow), 290.0)

    def test_never_lengthens_a_short_history(self) -> None:
        self.assertEqual(fit(LoadShape(history_tokens=100), NORMAL, 3600.0).history_tokens, 100)

    def test_says_when_nothing_fits(self) -> None:
        with self.assertRaisesRegex(ValueError, "--time-budget"):
            fit(LoadShape(), NORMAL, 5.0)

    def test_reuse_saves_most_of_a_run(self) -> None:
        self.assertLess(run_seconds(LoadShape(), NORMAL, reuse=True), 0.5 * run_seconds(LoadShape(), NORMAL, reuse=False))


class SecondActTest(unittest.TestCase):
    def test_a_user_on_a_cold_server_costs_the_whole_conversation(self) -> None:
        shape = LoadShape()
        one = second_act_seconds(shape, NORMAL, 3) - second_act_seconds(shape, NORMAL, 2)
        self.assertAlmostEqual(one, shape.prompt_tokens(4) / 200 + 24 * 0.03)

    def test_the_load_gives_way_to_what_comes_after_it(self) -> None:
        alone, beside = (fit(LoadShape(), NORMAL, 180.0, lambda _: also) for also in (0.0, 60.0))
        self.assertLess(beside.history_tokens, alone.history_tokens)
        self.assertLessEqual(both(beside, NORMAL) + 60.0, 180.0)


class OneMoreRoundTest(unittest.TestCase):
    def test_on_schedule_it_is_what_was_planned(self) -> None:
        shape = LoadShape()
        three = run_seconds(replace(shape, rounds=3), NORMAL, reuse=False)
        expected = both(shape, NORMAL) - three
        self.assertAlmostEqual(one_more_round_s(shape, NORMAL, 3, three), expected)

    def test_a_machine_twice_as_slow_takes_twice_as_long(self) -> None:
        shape = LoadShape()
        three = run_seconds(replace(shape, rounds=3), NORMAL, reuse=False)
        self.assertAlmostEqual(one_more_round_s(shape, NORMAL, 3, 2 * three), 2 * one_more_round_s(shape, NORMAL, 3, three))


class MeasureTest(unittest.TestCase):
    def test_measures_characters_a_token(self) -> None:
        server = FakeOpenAi()
        server.start()
        self.addCleanup(server.stop)
        speed = measure_speed(Endpoint("127.0.0.1", server.port), read_documents())
        self.assertAlmostEqual(speed.chars_per_token, 4.0, delta=0.2)  # the fake's token is four characters
        self.assertGreater(speed.prefill_tokens_per_s, 0)
        self.assertGreater(speed.decode_s_per_token, 0)


if __name__ == "__main__":
    unittest.main()
