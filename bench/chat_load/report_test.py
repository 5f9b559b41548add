from __future__ import annotations

import json
import tempfile
import unittest
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

from chat_load import report
from chat_load.client import Answer
from chat_load.conversation import LoadShape
from chat_load.equality import Equality
from chat_load.plot import Series, nice_ceiling, ttft_plot
from chat_load.runner import RunResult, Turn
from chat_load.second_act import Killed, Restart, Return
from chat_load.sizing import Speed
from chat_load.terminal import table

SHAPE = LoadShape(users=3, rounds=2)
MACHINE: dict[str, str | int] = {"processor": "A <fast> CPU", "cores": 2, "memory_bytes": 8 << 30, "kernel": "6.1", "load_average_1min": "0.50"}


def run(ttft: float, cached: int, wall: float, text: str = "yes", first: float = 2.0) -> RunResult:
    """First visits take `first`, returns `ttft`, each times the user's number."""

    def answer(user: int, round_index: int) -> Answer:
        took = (ttft if round_index else first) * (user + 1)
        return Answer(text, took, took + 1, 1000, cached if round_index else 0, 24, "length")

    return RunResult([Turn(user, round_index, 0.0, answer(user, round_index)) for round_index in range(2) for user in range(3)], [], wall)


ALL_EQUAL = Equality(5, 5, 120, 300)


def demo(equality: Equality | None = ALL_EQUAL) -> report.DemoResult:
    without = report.ServerRun(run(2.0, 0, 60.0), "tiercel-llama --cache off", 300 << 20)
    with_tiercel = report.ServerRun(run(0.1, 900, 20.0, "no"), "tiercel-llama", 500 << 20,
                                    {'tiercel_llama_moved_bytes_total{direction="restored"}': 5 << 20, 'tiercel_llama_moved_bytes_total{direction="kept"}': 7 << 20})
    return report.DemoResult(SHAPE, 2048, Speed(200.0, 0.03, 3.6), MACHINE, "Model & Co", without, with_tiercel, equality, "not run", 0, 100.0)


def restart(found: int = 98, failed: int = 0, read: int = 60) -> Restart:
    """Three users before the kill and on the warm server, two on the cold one."""

    def one_each(users: int, ttft: float, cached: int) -> RunResult:
        return RunResult([Turn(user, 3, 0.0, Answer("yes", ttft, ttft + 1, 1000, cached, 24, "length")) for user in range(users)])

    counted = {"tiercel_disk_recovered_blocks_total": float(found), "tiercel_disk_checksum_failures_total": float(failed), "tiercel_promoted_blocks_total": float(read)}
    return Restart(Killed(one_each(3, 0.2, 900), 1, 100), Return(one_each(2, 4.0, 100), 1.5, "tiercel-llama --disk cold", 1 << 20, {}),
                   Return(one_each(3, 0.5, 950), 2.0, "tiercel-llama --disk warm", 1 << 20, counted))


class RestartTest(unittest.TestCase):
    def test_figures(self) -> None:
        rows = {row[0]: row[1:] for row in report.restart_rows(restart())}
        self.assertEqual(rows["first token p50"], ("0.20 s", "4.0 s", "0.50 s", "8.0x sooner than cold"))
        self.assertEqual(rows["users that come back"], ("3", "2", "3", "one turn each"))
        self.assertEqual(rows["prompt tokens reused"], ("90%", "10%", "95%", ""))
        self.assertEqual(rows["blocks read from disk"], ("-", "0", "60", ""))
        self.assertEqual(rows["ready after"][:3], ("-", "1.5 s", "2.0 s"))

    def test_the_sentence_counts_what_was_found(self) -> None:
        said = report.restart_sentence(restart(failed=2))
        self.assertIn("first token p50 0.50 s, 98 of 100 blocks found on disk, 2 failed verification.", said)
        self.assertIn("100 of 100 blocks found on disk (and 3 written in the last moment)", report.restart_sentence(restart(found=103)))

    def test_when_it_holds(self) -> None:
        self.assertTrue(restart().holds)
        for broken in (restart(found=0), restart(read=0), restart(failed=1)):
            self.assertFalse(broken.holds)

    def test_left_out_it_is_a_remark(self) -> None:
        result = demo()
        result.restart_note = "left out, as asked for"
        self.assertIn(("kill -9 and start again", "left out, as asked for"), report.remarks(result))
        result.restart = restart()
        self.assertNotIn("kill -9 and start again", dict(report.remarks(result)))


class TableTest(unittest.TestCase):
    def rows(self) -> dict[str, tuple[str, str, str]]:
        return {label.strip(): (a, b, note) for label, a, b, note in report.table_rows(demo())}

    def test_figures(self) -> None:
        rows = self.rows()
        self.assertEqual(rows["first token p50"], ("4.0 s", "1.1 s", "3.5x sooner"))
        self.assertEqual(rows["users returning p50"], ("4.0 s", "0.20 s", "20.0x sooner"))
        self.assertEqual(rows["first visits p50"], ("4.0 s", "4.0 s", "1.0x sooner"))
        self.assertEqual(rows["prompt tokens computed"], ("6,000", "3,300", "55%"))
        self.assertEqual(rows["prompt tokens reused"], ("0", "2,700", ""))
        self.assertEqual(rows["bytes restored"], ("-", "5 MiB", ""))
        self.assertEqual(rows["bytes kept"], ("-", "7 MiB", ""))
        self.assertEqual(rows["wall time"], ("60.0 s", "20.0 s", "3.0x shorter"))
        self.assertEqual(rows["server memory, peak"], ("300 MiB", "500 MiB", ""))

    def test_what_is_slower_is_called_slower(self) -> None:
        result = demo()
        result.with_tiercel.result = run(4.0, 900, 90.0)
        rows = {label.strip(): note for label, _, _, note in report.table_rows(result)}
        self.assertEqual(rows["users returning p50"], "2.0x later")
        self.assertEqual(rows["wall time"], "1.5x longer")

    def test_remarks(self) -> None:
        self.assertIn("token for token (5 of 5", report.remarks(demo())[0][1])
        self.assertIn("NOT EQUAL (4 of 5", report.remarks(demo(Equality(5, 4, 120, 300)))[0][1])
        self.assertEqual(report.remarks(demo(None))[0][1], "not run")
        self.assertIn("6 of 6", report.remarks(demo())[1][1])

    def test_a_machine_that_changed_its_speed_is_told(self) -> None:
        self.assertTrue(demo().steady)
        result = demo()
        for first, steady in ((1.4, True), (2.9, True), (1.3, False), (3.1, False)):
            result.with_tiercel.result = run(0.1, 900, 20.0, first=first)
            self.assertEqual(result.steady, steady, first)
            self.assertEqual(any(label == "MACHINE NOT STEADY" for label, _ in report.remarks(result)), not steady)

    def test_columns_line_up(self) -> None:
        self.assertEqual(table(("", "a", "b", ""), [("x", "1", "22", "n"), ("yy", "333", "4", "")]).splitlines(),
                         ["      a   b", "x     1  22  n", "yy  333   4"])


class FilesTest(unittest.TestCase):
    def write(self, result: report.DemoResult) -> tuple[str, dict[str, object]]:
        with tempfile.TemporaryDirectory() as directory:
            page, data = report.write(result, Path(directory) / "new")
            return page.read_text(encoding="utf-8"), json.loads(data.read_text(encoding="utf-8"))

    def test_json_has_every_request_and_the_figures(self) -> None:
        _, data = self.write(demo())
        with_tiercel = data["with"]
        assert isinstance(with_tiercel, dict)
        self.assertEqual(len(with_tiercel["requests"]), 6)
        self.assertEqual(with_tiercel["requests"][0]["text"], "no")
        self.assertEqual(with_tiercel["bytes_restored"], 5 << 20)
        self.assertEqual(data["answers_differ"], 6)
        self.assertEqual(data["equality"], {"turns": 5, "equal": 5, "tokens": 120, "restored_tokens": 300, "holds": True})

    def test_page_needs_nothing_from_elsewhere(self) -> None:
        page, _ = self.write(demo())
        for word in ("<script", "src=", "href=", "@import", "url("):
            self.assertNotIn(word, page)

    def test_json_has_the_second_act(self) -> None:
        result = demo()
        self.assertIsNone(self.write(result)[1]["restart"])
        result.restart = restart()
        data = self.write(result)[1]["restart"]
        assert isinstance(data, dict)
        self.assertEqual([len(data[name]["requests"]) for name in ("before", "cold", "warm")], [3, 2, 3])
        self.assertEqual((data["found_blocks"], data["before"]["disk_blocks"], data["holds"]), (98, 100, True))

    def test_page_is_well_formed_and_escaped(self) -> None:
        result = demo()
        result.restart = restart()
        page, _ = self.write(result)
        self.assertEqual(page.count("<svg"), 2)
        self.assertIn("98 of 100 blocks found on disk", page)
        self.assertIn("A &lt;fast&gt; CPU", page)
        self.assertIn("Model &amp; Co", page)
        open_tags: list[str] = []

        class Checker(HTMLParser):
            def handle_starttag(self, tag: str, attributes: object) -> None:
                if tag not in ("meta",):
                    open_tags.append(tag)

            def handle_startendtag(self, tag: str, attributes: object) -> None:
                pass

            def handle_endtag(self, tag: str) -> None:
                if not open_tags or open_tags.pop() != tag:
                    raise AssertionError(f"</{tag}> closes nothing")

        Checker().feed(page)
        self.assertEqual(open_tags, [])

    def test_page_says_when_rounds_were_left_out(self) -> None:
        result = demo()
        self.assertNotIn("rounds left out", self.write(result)[0])
        result.rounds_cut = 1
        self.assertIn("rounds left out", self.write(result)[0])


class PlotTest(unittest.TestCase):
    def plot(self) -> ET.Element:
        result = demo()
        return ET.fromstring(ttft_plot([Series("without", result.without.result), Series("with", result.with_tiercel.result)], 3, 2))

    def test_one_bar_a_turn_as_high_as_its_time(self) -> None:
        bars = [node for node in self.plot().iter("{http://www.w3.org/2000/svg}rect") if list(node)]
        self.assertEqual(len(bars), 12)
        first, second = (float(bars[at].get("height", "0")) for at in (0, 1))
        self.assertAlmostEqual(second / first, 2.0, places=1)

    def test_bars_stay_inside(self) -> None:
        root = self.plot()
        for node in root.iter("{http://www.w3.org/2000/svg}rect"):
            self.assertGreaterEqual(float(node.get("y", "0")), 0)
            self.assertLessEqual(float(node.get("x", "0")) + float(node.get("width", "0")), 920)

    def test_axis_ends_on_a_round_number(self) -> None:
        self.assertEqual(nice_ceiling(9.7), (10.0, 2.0))
        self.assertEqual(nice_ceiling(0.0), (1.0, 0.25))
        for value in (0.013, 0.4, 1.1, 7.3, 88.0, 1234.0):
            top, step = nice_ceiling(value)
            self.assertGreaterEqual(top, value * 0.999999)
            self.assertLessEqual(top / step, 7)
            self.assertGreaterEqual(top / step, 2)


if __name__ == "__main__":
    unittest.main()
