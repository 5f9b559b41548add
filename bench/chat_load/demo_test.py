"""The demo as a program, with stand-ins for the server and the equality program: what it leaves behind and how it ends."""
from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEMO = HERE / "demo.py"
ENGINE = HERE / "testing" / "fake_engine.py"
SERVICE = HERE / "testing" / "fake_service.py"
EQUALITY = HERE / "testing" / "fake_equality.py"


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def end(pid: int) -> None:
    if running(pid):
        os.kill(pid, signal.SIGKILL)


class ProgramTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.output = Path(directory.name)
        self.model = self.output / "model.gguf"
        self.model.write_bytes(b"GGUF")

    def start(self, *more: str, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(DEMO), "--server-binary", str(ENGINE), "--equality-binary", str(EQUALITY), "--model", str(self.model),
                   "--output", str(self.output), "--rounds", "2", "--history", "200", "--step", "[4/4] ", *more]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment})

    def run_demo(self, *more: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*more, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def pids(self) -> list[int]:
        return [int(path.read_text()) for path in self.output.glob("*.pid")]

    def assert_nothing_runs(self, servers: int) -> None:
        """Nor lies anything about that a disk tier wrote."""
        self.assertEqual(len(self.pids()), servers)
        self.assertEqual([pid for pid in self.pids() if running(pid)], [])
        self.assertFalse((self.output / "disk").exists())

    def interrupted(self, which: signal.Signals, name: str, servers: int, *more: str) -> None:
        """By this signal while the named server holds back an answer."""
        fifo = self.output / "hanging"
        os.mkfifo(fifo)
        process = self.start(*more, FAKE_ENGINE=f"hang:4:{fifo}", FAKE_ENGINE_PASS=name)
        fifo.read_text()  # returns when the fourth request has arrived
        process.send_signal(which)
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertIn("interrupted; no process is left running", err)
        self.assert_nothing_runs(servers)


class WholeDemoTest(ProgramTest):
    def test_a_whole_demo(self) -> None:
        code, out, err = self.run_demo()
        self.assertEqual((code, err), (0, ""))
        self.assertIn("[4/4] chat load     6 users x 2 rounds, 2 slots, KV of 2 of 6 users fits the engine", out)
        self.assertRegex(out, r"without Tiercel +█{20} +12/12 +p50 [\d.]+ s +p95 [\d.]+ s")
        self.assertRegex(out, r"with Tiercel +█{20} +12/12")
        self.assertRegex(out, r"restored = recomputed +token for token \(5 of 5 turns")
        self.assertRegex(out, r"first token p50 +[\d.]+ s +[\d.]+ s")
        self.assert_nothing_runs(servers=5)
        data = json.loads((self.output / "report.json").read_text())
        self.assertEqual([len(data[name]["requests"]) for name in ("without", "with")], [12, 12])
        self.assertGreater(data["with"]["bytes_restored"], 0)
        self.assertGreater(data["with"]["peak_rss_bytes"], 1 << 20)
        self.assertIn("<svg", (self.output / "report.html").read_text())

    def test_the_same_server_but_for_the_cache(self) -> None:
        self.run_demo("--host-capacity", "3GiB", "--no-second-act")
        without, with_tiercel = ((self.output / f"{name}.args").read_text().split("\n") for name in ("without", "with"))
        for arguments, tail in ((without, ["--cache", "off"]), (with_tiercel, ["--host-capacity", "3GiB"])):
            self.assertEqual(arguments[-2:], tail)
        at = without.index("--port-file") + 1
        self.assertEqual(without[:at] + without[at + 1 : -2], with_tiercel[:at] + with_tiercel[at + 1 : -2])

    def test_without_the_equality_program_it_says_that_nothing_was_checked(self) -> None:
        process = subprocess.run([sys.executable, str(DEMO), "--server-binary", str(ENGINE), "--model", str(self.model), "--output", str(self.output),
                                  "--rounds", "2", "--history", "200"], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(process.returncode, 0)
        self.assertIn("restored = recomputed    not checked", process.stdout)

    def test_kept_server_answers_the_printed_line_and_ends_when_told(self) -> None:
        code, out, _ = self.run_demo("--keep")
        self.assertEqual(code, 0)
        pid = int((self.output / "warm.pid").read_text())
        self.addCleanup(end, pid)
        self.assertEqual([one for one in self.pids() if running(one)], [pid])
        printed = re.search(r"curl -sN (\S+) -H '(\S+): (\S+)' -d '(.*)'", out)
        assert printed
        request = urllib.request.Request(printed[1], printed[4].encode(), {printed[2]: printed[3]})
        with urllib.request.urlopen(request, timeout=20) as response:
            self.assertIn(b"data: [DONE]", response.read())
        self.assertIn(f"kill {pid}", out)
        self.assertTrue((self.output / "disk" / "warm" / "tiercel.kv").exists())
        self.assertFalse((self.output / "disk" / "cold").exists())


class SecondActTest(ProgramTest):
    def test_killed_and_started_again(self) -> None:
        code, out, err = self.run_demo()
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"kill -9 of the server in mid-load: \d answers? under way, \d+ blocks on disk")
        self.assertRegex(out, r"cold start +█{20} +6/6")
        self.assertRegex(out, r"warm start +█{20} +6/6")
        self.assertRegex(out, r"after kill -9 +before +cold start +warm start")
        self.assertRegex(out, r"first token p50 +[\d.]+ s +[\d.]+ s +[\d.]+ s")
        said = re.search(r"killed \(kill -9\) and started again: first token p50 [\d.]+ s, (\d+) of (\d+) blocks found on disk.*, 0 failed verification", out)
        assert said
        self.assertEqual(said[1], said[2])
        data = json.loads((self.output / "report.json").read_text())["restart"]
        self.assertTrue(data["holds"])
        self.assertEqual([len(data[name]["requests"]) for name in ("before", "cold", "warm")], [6, 6, 6])
        self.assertGreater(data["warm"]["prompt_tokens_reused"], 5 * data["cold"]["prompt_tokens_reused"])
        self.assertIn("Killed in mid-load", (self.output / "report.html").read_text())

    def test_the_servers_differ_in_their_directory_alone(self) -> None:
        self.run_demo()
        names = ("with", "cold", "warm")
        arguments = {name: (self.output / f"{name}.args").read_text().split("\n") for name in names}
        directories = [arguments[name].pop(arguments[name].index("--disk") + 1) for name in names]
        self.assertEqual([Path(directory).name for directory in directories], ["warm", "cold", "warm"])
        for name in names:
            arguments[name].pop(arguments[name].index("--port-file") + 1)
        self.assertEqual(arguments["with"], arguments["cold"])
        self.assertEqual(arguments["with"], arguments["warm"])

    def test_left_out_as_asked_for(self) -> None:
        code, out, _ = self.run_demo("--no-second-act")
        self.assertEqual(code, 0)
        self.assertIn("kill -9 and start again  left out, as asked for", out)
        self.assert_nothing_runs(servers=3)
        self.assertIsNone(json.loads((self.output / "report.json").read_text())["restart"])

    def test_left_out_where_there_is_no_room(self) -> None:
        code, out, _ = self.run_demo("--disk-capacity", "1000000TiB")
        self.assertEqual(code, 0)
        self.assertRegex(out, r"the second act is left out: [\d.]+ GiB of disk are needed, [\d.]+ GiB are free")
        self.assert_nothing_runs(servers=3)

    def test_left_out_while_a_kept_server_has_the_disk(self) -> None:
        directory = self.output / "disk" / "warm"
        directory.mkdir(parents=True)
        with (directory / "tiercel.kv.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write("4711\n")
            lock.flush()
            code, out, _ = self.run_demo()
        self.assertEqual(code, 0)
        self.assertIn("is used by process 4711", out)
        self.assertTrue((directory / "tiercel.kv.lock").exists())

    def test_a_size_that_is_none(self) -> None:
        code, _, err = self.run_demo("--disk-capacity", "much")
        self.assertEqual(code, 1)
        self.assertIn("'much' is not a size", err)
        self.assertFalse((self.output / "disk").exists())

    def test_a_disk_that_forgot_fails_the_demo_but_is_reported(self) -> None:
        code, out, err = self.run_demo("--keep", FAKE_ENGINE="forget", FAKE_ENGINE_PASS="warm")
        self.addCleanup(end, int((self.output / "warm.pid").read_text()))
        self.assertEqual(code, 1)
        self.assertRegex(out, r" 0 of \d+ blocks found on disk")
        self.assertIn("the second act failed", err)

    def test_a_server_that_dies_after_the_kill(self) -> None:
        for name, servers in (("cold", 4), ("warm", 5)):
            code, _, err = self.run_demo("--keep", FAKE_ENGINE="die:2", FAKE_ENGINE_PASS=name)
            self.assertEqual(code, 1, err)
            self.assertRegex(err, rf"error: tiercel-llama \({name}\): user \d, round \d: (connection broken|answer cut off)")
            self.assert_nothing_runs(servers)

    def test_a_warm_server_that_ends_badly(self) -> None:
        code, _, err = self.run_demo(FAKE_ENGINE="bad_exit", FAKE_ENGINE_PASS="warm")
        self.assertEqual(code, 1)
        self.assertIn("tiercel-llama (warm) ended with exit code 7 instead of 0 after SIGTERM", err)
        self.assert_nothing_runs(servers=5)

    def test_ctrl_c_during_the_cold_start(self) -> None:
        self.interrupted(signal.SIGINT, "cold", 4)


class ServiceTest(ProgramTest):
    """As `make demo` runs it: the server with Tiercel is a client of a service."""

    def start(self, *more: str, **environment: str) -> subprocess.Popen[str]:
        return super().start("--service-binary", str(SERVICE), *more, **environment)

    def test_a_whole_demo_on_a_service(self) -> None:
        code, out, err = self.run_demo()
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, r"live page of the service while it runs: http://127.0.0.1:\d+/")
        self.assertIn("kill -9 of the server and of the service in mid-load", out)
        said = re.search(r"(\d+) of (\d+) blocks found on disk", out)
        assert said
        self.assertEqual(said[1], said[2])
        self.assert_nothing_runs(servers=8)  # measure, without, and an engine and a service each: with, cold, warm
        with_tiercel = (self.output / "with.args").read_text().split("\n")
        self.assertNotIn("--host-capacity", with_tiercel)
        self.assertNotIn("--service", (self.output / "without.args").read_text().split("\n"))
        self.assertGreater(json.loads((self.output / "report.json").read_text())["with"]["peak_rss_bytes"], 1 << 20)

    def test_both_are_kept_and_both_end_when_told(self) -> None:
        code, out, _ = self.run_demo("--keep")
        self.assertEqual(code, 0)
        kept = [one for one in self.pids() if running(one)]
        for pid in kept:
            self.addCleanup(end, pid)
        told = re.search(r"kill (\d+) (\d+)\)", out)
        assert told
        self.assertEqual({int(told[1]), int(told[2])}, set(kept))
        self.assertRegex(out, r"Live page of the service: http://127.0.0.1:\d+/")

    def test_a_service_that_ends_badly(self) -> None:
        code, _, err = self.run_demo("--no-second-act", FAKE_SERVICE="die_at_end")
        self.assertEqual(code, 1)
        self.assertIn("ended with exit code 5 instead of 0 after SIGTERM", err)
        self.assert_nothing_runs(servers=4)

    def test_an_engine_that_does_not_start_takes_its_service_along(self) -> None:
        code, _, err = self.run_demo(FAKE_ENGINE="refuse", FAKE_ENGINE_PASS="with")
        self.assertEqual(code, 1)
        self.assertIn("model: no such file", err)
        self.assert_nothing_runs(servers=3)  # the one that was refused wrote none

    def test_ctrl_c(self) -> None:
        self.interrupted(signal.SIGINT, "with", 4)


class FailingDemoTest(ProgramTest):
    def test_a_server_that_dies_under_load(self) -> None:
        for name, servers in (("without", 2), ("with", 3)):
            code, _, err = self.run_demo("--keep", FAKE_ENGINE="die:5", FAKE_ENGINE_PASS=name)
            self.assertEqual(code, 1, err)
            self.assertRegex(err, rf"error: {name} Tiercel: user \d, round 1: (connection broken|answer cut off)")
            self.assertIn(f"tiercel-llama ({name}) has ended", err)
            self.assert_nothing_runs(servers)
            self.assertFalse((self.output / "report.html").exists())

    def test_a_server_that_does_not_start(self) -> None:
        code, _, err = self.run_demo(FAKE_ENGINE="refuse")
        self.assertEqual(code, 1)
        self.assertIn("exit code 3", err)
        self.assertIn("model: no such file", err)

    def test_a_server_that_ends_badly(self) -> None:
        code, _, err = self.run_demo(FAKE_ENGINE="bad_exit", FAKE_ENGINE_PASS="without")
        self.assertEqual(code, 1)
        self.assertIn("exit code 7 instead of 0 after SIGTERM", err)
        self.assert_nothing_runs(servers=2)

    def test_files_that_are_missing(self) -> None:
        code, _, err = self.run_demo("--model", str(self.output / "none.gguf"))
        self.assertEqual(code, 1)
        self.assertIn("--model", err)
        self.assertEqual(self.pids(), [])

    def test_answers_that_are_not_equal_fail_the_demo_but_are_reported(self) -> None:
        code, out, err = self.run_demo("--no-second-act", FAKE_EQUALITY="4")
        self.assertEqual(code, 1)
        self.assertIn("NOT EQUAL (4 of 5 turns", out)
        self.assertIn("differ in 1 of 5 turns", err)
        self.assertTrue((self.output / "report.html").exists())
        self.assert_nothing_runs(servers=3)

    def test_an_equality_pass_that_restored_nothing_proves_nothing(self) -> None:
        code, out, err = self.run_demo("--no-second-act", FAKE_EQUALITY="nothing")
        self.assertEqual(code, 1)
        self.assertIn("NOTHING WAS RESTORED (5 of 5 turns", out)
        self.assertIn("restored nothing", err)

    def test_an_equality_program_that_crashes(self) -> None:
        code, _, err = self.run_demo("--keep", FAKE_EQUALITY="garbage")
        self.assertEqual(code, 1)
        self.assertIn("exited with 139 and no result", err)
        self.assert_nothing_runs(servers=5)

    def test_ctrl_c(self) -> None:
        self.interrupted(signal.SIGINT, "with", 3)

    def test_ctrl_c_with_keep(self) -> None:
        self.interrupted(signal.SIGINT, "with", 3, "--keep")

    def test_sigterm(self) -> None:
        self.interrupted(signal.SIGTERM, "with", 3)

    def test_killed_itself_it_takes_its_server_along(self) -> None:
        fifo = self.output / "hanging"
        os.mkfifo(fifo)
        process = self.start(FAKE_ENGINE=f"hang:4:{fifo}", FAKE_ENGINE_PASS="without")
        fifo.read_text()
        pid = int((self.output / "without.pid").read_text())
        gone = os.pidfd_open(pid)
        process.kill()
        process.communicate(timeout=60)
        with open(gone, "rb"):
            self.assertEqual(select.select([gone], [], [], 30)[0], [gone])


if __name__ == "__main__":
    unittest.main()
