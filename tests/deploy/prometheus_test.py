#!/usr/bin/env python3
"""prometheus_test.py TIERCEL ENGINE LOADED_SERVICE DEPLOY OPERATIONS [unittest arguments]: deploy/ against the real
Prometheus, which scrapes services under load and evaluates the shipped rules a hundred times as fast.

Goal: every metric follows the conventions and is documented; every expression of every dashboard and rule parses and
has data on a service under load; each alert fires when its condition is made true, and none on a service that is well.
The conditions are made true in real services; what cannot be made so without a device that hangs, or a day's time,
stands with its series in alert_rules_test.yml, which promtool runs."""

import contextlib
import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from prometheus_server import Prometheus, on_short_time  # noqa: E402
from services import Engine, Service, scribble  # noqa: E402

TIERCEL, ENGINE, LOADED, DEPLOY, OPERATIONS = "", "", "", "", ""
DASHBOARDS = ("overview", "host", "disk", "tenants")
PATIENCE_S = 60

# Alert: the service of this test in which its condition is made true.
MADE_TRUE = {
    "TiercelDown": "restarting", "TiercelRestarting": "restarting", "TiercelNoEngines": "restarting",
    "TiercelConnectionsRefused": "crowd", "TiercelHttpRefused": "crowd", "TiercelHitRatioCollapsed": "crowd",
    "TiercelIndexFull": "crowd", "TiercelDiskDirectoryOut": "crowd", "TiercelDeletesLate": "crowd", "TiercelDiskWear": "two engines",
    "TiercelKvPoolFull": "memory", "TiercelMemoryCorrupt": "memory", "TiercelArenaFull": "memory", "TiercelQuarantine": "memory",
    "TiercelProtocolErrors": "memory", "TiercelDepartedSlots": "memory",
    "TiercelTenantAtCap": "two engines", "TiercelTenantBelowGuarantee": "tenants", "TiercelArenaWaits": "waiting",
    "TiercelLoadsLate": "disk", "TiercelDiskCorrupt": "disk", "TiercelDiskErrors": "disk", "TiercelDiskUnsteady": "disk",
}
WELL = ("well", "two engines")
# loaded_service writes as fast as it can, several times its disk tier in a (short) day, one of the engines that it
# makes up is in another mode, and one of its tenants has a small cap.
TRUE_OF_IT = {("TiercelDiskWear", "two engines"), ("TiercelEngineNotOn", "two engines"), ("TiercelTenantAtCap", "two engines")}
# Of the services that have some. The one of "well" is met: an alert about it would be false.
TENANTS = {"well": '[tenants.default]\nhost_guarantee = "30%"\n', "tenants": '[tenants.promised]\nhost_guarantee = "80%"\n'}
BLOCK_BYTES = 256 * 1024  # of commanded_engine


def shipped(*names):
    with open(os.path.join(DEPLOY, *names), encoding="utf-8") as file:
        return file.read()


def rules_text():
    return shipped("prometheus", "tiercel.rules.yml")


class LoadedService:
    """loaded_service: two made-up engines, one of which has measured its prefill."""

    def __init__(self, folder):
        os.makedirs(folder)
        self.process = subprocess.Popen([LOADED, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.metrics = json.loads(self.process.stdout.readline())["metrics"].removeprefix("http://").removesuffix("/metrics")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(30)


class World:
    """The services, their engines and the Prometheus that watches them."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="tiercel-watched-")
        self.services, self.engines, self.prometheus = {}, [], None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self):
        for name, flags in {
            "well": {"disk": "256MiB"},
            "crowd": {"more": ("--http-connections", "8", "--http-streams", "4", "--index-blocks", "256"),
                      "disk": "192MiB", "missing": os.path.join(self.folder, "missing")},
            "memory": {"more": ("--integrity-mode", "paranoid")},
            "disk": {},
            "restarting": {}, "tenants": {}, "waiting": {},
        }.items():
            folder = os.path.join(self.folder, name)
            more = flags.pop("more", ())
            if name in TENANTS:
                settings = f"{folder}.toml"
                with open(settings, "w", encoding="ascii") as file:
                    file.write(TENANTS[name])
                more = (*more, "--config", settings)
            self.services[name] = Service(TIERCEL, folder, *more, **flags)
        self.services["two engines"] = LoadedService(os.path.join(self.folder, "loaded"))
        for name, pace in {"well": 150, "crowd": 100, "memory": 60, "disk": 60}.items():
            engine = self.engine(name, f"engine of {name}")
            engine.tell(f"pace {pace}", "deadline 3000000")
        self.prometheus = Prometheus(self.folder, {name: one.metrics for name, one in self.services.items()},
                                     on_short_time(rules_text()))

    def engine(self, service, name, *options):
        engine = Engine(ENGINE, self.services[service], name, *options)
        self.engines.append(engine)
        return engine

    def engine_of(self, service):
        return self.engines[["well", "crowd", "memory", "disk"].index(service)]

    def wait_for(self, *alerts):
        """Until these have been firing on the services that MADE_TRUE names."""
        wanted = {(alert, MADE_TRUE[alert]) for alert in alerts}
        end = time.monotonic() + PATIENCE_S
        while True:
            missing = wanted - self.prometheus.fired()
            if not missing:
                return
            if time.monotonic() > end:
                raise AssertionError(f"did not fire within {PATIENCE_S} s: {sorted(missing)}; pending: {sorted(self.prometheus.alerts('pending'))}")
            time.sleep(0.25)

    def wait_for_query(self, expression):
        end = time.monotonic() + PATIENCE_S
        while not self.prometheus.query(expression):
            if time.monotonic() > end:
                raise AssertionError(f"never true: {expression}")
            time.sleep(0.25)

    def counts_callers(self):
        """Does the door of this build say who comes and goes?"""
        return bool(self.prometheus.query('tiercel_socket_connections{instance="well"}'))

    def close(self):
        codes = [engine.close() for engine in self.engines]
        codes += [service.close() for service in self.services.values()]
        if self.prometheus:
            self.prometheus.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return codes


def scrape(address):
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
        return answer.read().decode()


def expressions_of_dashboards():
    for name in DASHBOARDS:
        for panel in json.loads(shipped("grafana", f"{name}.json"))["panels"]:
            for target in panel.get("targets", []):
                yield f"{name}: {panel['title']}: {target['legendFormat']}", target["expr"]


def as_grafana_asks(expression):
    """With the variables as Grafana fills them in for all services, and the interval of this test's scrapes."""
    return expression.replace("$instance", ".*").replace("$__rate_interval", "10s")


class Watched(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.began = time.monotonic()

    @classmethod
    def tearDownClass(cls):
        slowest = cls.world.prometheus.query('max(max_over_time(scrape_duration_seconds[1h]))')[0][1]
        print(f"{time.monotonic() - cls.began:.0f} s, the slowest scrape took {1e3 * slowest:.0f} ms")
        codes = cls.world.close()
        assert all(code in (0, -9) for code in codes), f"exit statuses of engines and services: {codes}"

    def prometheus(self):
        return self.world.prometheus

    def test_1_metrics_follow_the_conventions_and_are_documented(self):
        documented = set(re.findall(r"^\| `(tiercel_\w+)` \|", shipped_operations(), re.MULTILINE))
        for name in WELL:
            text = scrape(self.world.services[name].metrics)
            checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
            self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, "", ""))
            helped = {match[0]: match[1] for match in re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE)}
            typed = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
            self.assertEqual(set(helped), typed)
            self.assertEqual(typed, documented, "docs/operations.md and the code")
            self.assertTrue(all(helped.values()))

    def test_2_every_expression_of_every_dashboard_has_data(self):
        self.world.wait_for_query('instance:tiercel_hit_ratio:rate10m{instance="well"} > 0')
        # The disk tier is read once the arena is full; the percentiles of what never happened are no number.
        self.world.wait_for_query('increase(tiercel_load_blocks_total{tier="disk",instance="well"}[10s]) > 0')
        counts = self.world.counts_callers()
        seen = 0
        for where, expression in expressions_of_dashboards():
            if not counts and re.search(r"tiercel_(socket|departed)_", expression):
                continue
            seen += 1
            with self.subTest(where):
                samples = self.prometheus().query(as_grafana_asks(expression))
                self.assertTrue(samples, f"no data: {expression}")
                self.assertTrue(any(not math.isnan(value) for _, value in samples), f"nothing but NaN: {expression}")
        self.assertGreater(seen, 150)

    def test_3_every_expression_of_the_rules_has_data_without_its_threshold(self):
        """An alert that does not fire answers nothing, as does one about a metric that is not there; so the metrics of
        each must be there."""
        counts = self.world.counts_callers()
        for rule in self.prometheus().rules():
            with self.subTest(rule["name"]):
                self.assertEqual(rule["health"], "ok", rule.get("lastError"))
                for metric in set(re.findall(r"\b(?:tiercel_\w+|instance:\w+:\w+)\b", rule["query"])):
                    if counts or not re.match(r"tiercel_(socket|departed)_", metric):
                        self.assertTrue(self.prometheus().query(f'{metric}{{instance="well"}}'), metric)

    def test_4_a_service_that_is_well_has_no_alert(self):
        """For longer than the windows and the `for` of all but those of a day."""
        time.sleep(max(0.0, self.began + 20 - time.monotonic()))
        self.assertEqual([alert for alert in self.prometheus().alerts("pending") if alert[1] in WELL and alert not in TRUE_OF_IT], [])
        self.nothing_fired_on_what_is_well()

    def nothing_fired_on_what_is_well(self):
        self.assertEqual([alert for alert in self.prometheus().fired() if alert[1] in WELL and alert not in TRUE_OF_IT], [])

    def test_5_each_alert_fires_when_its_condition_is_true(self):
        errors = []

        def run(scenario):
            try:
                scenario()
            except Exception as error:  # pylint: disable=broad-except
                errors.append(f"{scenario.__name__}: {error}")

        scenarios = [threading.Thread(target=run, args=(scenario,)) for scenario in
                     (self.crowd_out, self.restart, self.wear_out_memory, self.break_the_disk, self.squeeze_a_tenant,
                      self.wait_for_the_arena)]
        for thread in scenarios:
            thread.start()
        for thread in scenarios:
            thread.join()
        self.assertEqual(errors, [])
        self.world.wait_for("TiercelDiskWear", "TiercelTenantAtCap")
        self.nothing_fired_on_what_is_well()

    def crowd_out(self):
        world, service, engine = self.world, self.world.services["crowd"], self.world.engine_of("crowd")
        world.wait_for("TiercelDiskDirectoryOut")
        engine.tell("drop 0")
        world.wait_for("TiercelDeletesLate")
        engine.tell("forget 1", "pace 1")
        if world.counts_callers():
            service.send_garbage()
        with contextlib.ExitStack() as held:
            for _ in range(12):
                held.enter_context(socket.create_connection(service.page_address(), timeout=10))
            world.wait_for("TiercelHttpRefused", "TiercelHitRatioCollapsed", "TiercelIndexFull",
                           *(["TiercelConnectionsRefused"] if world.counts_callers() else []))
        engine.tell("pace 500")

    def restart(self):
        world, service = self.world, self.world.services["restarting"]
        engine = world.engine("restarting", "engine that leaves")
        world.wait_for_query('tiercel_engines{instance="restarting"} == 1')
        engine.close()
        world.wait_for("TiercelNoEngines")
        for starts in range(1, 4):
            service.kill()
            service.start()
            world.wait_for_query(f'changes(tiercel_start_time_seconds{{instance="restarting"}}[10m]) >= {starts}')
        world.wait_for("TiercelRestarting")
        service.kill()
        world.wait_for("TiercelDown")

    def wear_out_memory(self):
        world, service, engine = self.world, self.world.services["memory"], self.world.engine_of("memory")
        engine.tell("pool 99")
        # Every block but those of the first extent.
        scribble(service.memory_file(), 2 * 2**20 + 5000, 2**16, 10_000)
        world.wait_for("TiercelMemoryCorrupt", "TiercelKvPoolFull")
        counts = world.counts_callers()
        if counts:
            zombie = world.engine("memory", "engine that is cut", "60000")  # it does not come back within this test
            zombie.tell("hold 1")
            engine.tell("garbage 0")
            world.wait_for("TiercelProtocolErrors")
        engine.tell("hold 1", "pace 20")
        world.wait_for("TiercelArenaFull")
        engine.tell("empty 0")
        if counts:
            zombie.tell("cut 0")
        world.wait_for("TiercelQuarantine", *(["TiercelDepartedSlots"] if counts else []))
        engine.tell("hold 0", "pace 500")

    def break_the_disk(self):
        world, service, engine = self.world, self.world.services["disk"], self.world.engine_of("disk")
        engine.tell("deadline 0")
        world.wait_for("TiercelLoadsLate")
        engine.tell("deadline 3000000")
        with open(service.disk_file, "rb") as file:
            size = file.seek(0, os.SEEK_END)
        scribble(service.disk_file, size // 4, 2**16, 10_000, 4096)
        world.wait_for("TiercelDiskCorrupt")
        service.limit_files(size // 8)
        # Each probe finds that it can be written at its beginning, and the next block that it cannot further on.
        world.wait_for("TiercelDiskErrors", "TiercelDiskUnsteady")
        service.limit_files()
        engine.tell("pace 500")

    def squeeze_a_tenant(self):
        """What one tenant was promised and did not use another holds on to."""
        world = self.world
        used = 'tiercel_tenant_used_bytes{instance="tenants",tier="host",tenant="%s"}'
        promised = world.engine("tenants", "engine of promised", "50", "promised")
        promised.tell("pace 200")
        world.wait_for_query(f"{used % 'promised'} >= {20 * BLOCK_BYTES}")
        promised.tell("pace 100000")
        greedy = world.engine("tenants", "engine of greedy", "50", "greedy")
        greedy.tell("hold 1", "pace 20")
        world.wait_for_query(f"{used % 'greedy'} > 0 and ignoring (tenant) tiercel_tier_used_bytes == tiercel_tier_capacity_bytes")
        promised.tell("pace 40")
        world.wait_for("TiercelTenantBelowGuarantee")
        greedy.tell("hold 0", "pace 500")
        world.wait_for_query(f"{used % 'promised'} > {100 * BLOCK_BYTES}")  # it gets what is no longer held
        promised.tell("pace 500")

    def wait_for_the_arena(self):
        world, service = self.world, self.world.services["waiting"]
        serving = 'tiercel_arena_stage{instance="waiting",stage="serving"} == '
        engine = world.engine("waiting", "engine that is stopped")
        engine.tell("pace 500")
        world.wait_for_query(serving + "1")
        engine.process.send_signal(signal.SIGSTOP)
        try:
            service.kill()
            service.start()
            world.wait_for("TiercelArenaWaits")
        finally:
            engine.process.send_signal(signal.SIGCONT)
        world.wait_for_query(serving + "1")

    def test_6_the_rest_is_proved_with_series(self):
        folder = tempfile.mkdtemp(prefix="tiercel-rules-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        series = os.path.join(os.path.dirname(os.path.abspath(__file__)), "alert_rules_test.yml")
        shutil.copy(series, folder)
        shutil.copy(os.path.join(DEPLOY, "prometheus", "tiercel.rules.yml"), folder)
        for words in (["check", "rules", "tiercel.rules.yml"], ["test", "rules", "alert_rules_test.yml"]):
            done = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        with open(series, encoding="utf-8") as file:
            with_series = set(re.findall(r"alertname: (\w+)", file.read()))
        alerts = set(re.findall(r"- alert: (\w+)", rules_text()))
        self.assertEqual(alerts - set(MADE_TRUE) - with_series, set(), "neither made true nor proved with series")
        if not self.world.counts_callers():
            not_made = {"TiercelConnectionsRefused", "TiercelProtocolErrors", "TiercelDepartedSlots"}
            self.assertLessEqual(not_made, with_series)


def shipped_operations():
    with open(OPERATIONS, encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    TIERCEL, ENGINE, LOADED, DEPLOY, OPERATIONS = sys.argv[1:6]
    unittest.main(argv=[sys.argv[0], *sys.argv[6:]], verbosity=2)
