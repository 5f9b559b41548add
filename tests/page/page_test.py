#!/usr/bin/env python3
"""page_test.py LOADED_SERVICE ARTEFACTS [unittest arguments]: the live page in a real browser, of a service under load.

Goal: every figure on the page is that of /status, written as a person reads it; there is no console error; it works
with 200 ms of latency, on a phone, in the dark, without a stream; and it comes back when the service does. The
screenshots of light, dark and phone are left in ARTEFACTS."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
from decimal import ROUND_HALF_UP, Decimal

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from delaying_proxy import DelayingProxy  # noqa: E402
from devtools import Page  # noqa: E402

PROGRAM, ARTEFACTS = "", ""
READ_FIGURES = """(() => ({tick: Number(document.body.dataset.tick),
  figures: [...document.querySelectorAll('[data-figure]')].map((e) => ({path: e.dataset.figure, kind: e.dataset.kind,
    raw: JSON.parse(e.dataset.raw ?? '"not drawn"'), text: e.textContent}))}))()"""


class Service:
    """loaded_service, which ends with its stdin."""

    def __init__(self, folder, port=0, tenants=4):
        self.process = subprocess.Popen([PROGRAM, folder, str(port), str(tenants)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)
        self.page = json.loads(self.process.stdout.readline())["page"]
        self.port = int(self.page.rsplit(":", 1)[1].strip("/"))

    def status(self):
        with urllib.request.urlopen(self.page + "status", timeout=10) as answer:
            return json.load(answer)

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        code = self.process.wait(30)
        assert code == 0, f"loaded_service ended with {code}"


# Of each tenant's row: the places in /status that its figures show, and where its marks stand, in percent of the bar.
READ_TENANTS = """[...document.querySelectorAll('#tenants .tenant')].map((row) => ({name: row.dataset.tenant,
  title: row.querySelector('.tenant-name b').textContent, folded: row.closest('details') !== null,
  paths: [...row.querySelectorAll('[data-figure]')].map((e) => e.dataset.figure),
  bars: [...row.querySelectorAll('.scale')].map((scale) => {
    const box = scale.getBoundingClientRect();
    const place = (e, x) => e.hidden ? null : 100 * (x(e.getBoundingClientRect()) - box.left) / box.width;
    return {path: scale.dataset.share, filled: parseFloat(scale.querySelector('.meter i').style.width),
      guarantee: place(scale.querySelector('.guarantee'), (b) => (b.left + b.right) / 2),
      cap: place(scale.querySelector('.beyond'), (b) => b.left), end: place(scale.querySelector('.beyond'), (b) => b.right)};
  })}))"""


def fixed(value, places):
    return str(Decimal(value).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP))


def digits(value):
    return fixed(value, 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2)


def scaled(value, step, units):
    unit = 0
    while unit + 1 < len(units) and abs(value) >= step ** (unit + 1):
        unit += 1
    return f"{fixed(value, 0)} {units[0]}" if unit == 0 else f"{digits(value / step ** unit)} {units[unit]}"


def duration(value):
    s = int(fixed(abs(value), 0))
    text = (f"{s} s" if s < 60 else f"{s // 60} min {s % 60} s" if s < 3600 else f"{s // 3600} h {s % 3600 // 60} min")
    return "−" + text if value < 0 and s > 0 else text


# As a person would write it, apart from the page's own code.
KINDS = {
    "percent": lambda v: fixed(100 * v, 1) + " %",
    "bytes": lambda v: scaled(v, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]),
    "rate": lambda v: scaled(v, 1000, ["B/s", "kB/s", "MB/s", "GB/s"]),
    "count": lambda v: f"{int(fixed(v, 0)):,}",
    "whole": lambda v: f"{int(fixed(v, 0)):,}",
    "each": lambda v: (f"{int(fixed(v, 0)):,}" if v >= 10 or v == 0 else fixed(v, 1)) + " /s",
    "seconds": lambda v: (digits(v) + " s" if v >= 1 else digits(v * 1e3) + " ms" if v >= 1e-3 else digits(v * 1e6) + " µs"),
    "duration": duration,
}


def at(status, path):
    for key in path.split("."):
        status = status[int(key)] if isinstance(status, list) else status[key]
    return status


class LivePage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="tiercel-page-")
        cls.service = Service(cls.folder)
        cls.page = Page()

    @classmethod
    def tearDownClass(cls):
        cls.page.close()
        cls.service.close()
        shutil.rmtree(cls.folder, ignore_errors=True)

    def setUp(self):
        self.page.errors.clear()
        self.page.look(1100)

    def open(self, url):
        self.page.open(url)
        self.page.wait_for("document.body?.dataset.tick !== undefined && location.href === " + json.dumps(url))

    def no_errors(self):
        self.page.value("1")  # what the browser still had to say
        self.assertEqual(self.page.errors, [])

    def same_as_status(self, service=None):
        """The figures of the page and of /status under one tick, which both must soon have."""
        for _ in range(100):
            shown = self.page.value(f"({{...{READ_FIGURES}, tenants: {READ_TENANTS}}})")
            status = (service or self.service).status()
            if shown["tick"] == status["tick"]:
                break
            time.sleep(0.05)
        self.assertEqual(shown["tick"], status["tick"], "page and /status never met")
        self.assertGreater(len(shown["figures"]), 20)
        for figure in shown["figures"]:
            with self.subTest(figure["path"]):
                value = at(status, figure["path"])
                self.assertEqual(figure["raw"], value)
                self.assertEqual(figure["text"], "–" if value is None else KINDS[figure["kind"]](value))
        return shown, status

    def tenants_are_those_of_status(self, rows, status):
        """Each row names the tenant whose figures it shows, and its marks stand where its guarantee and its cap are."""
        sizes = {tier["name"]: tier["capacity_bytes"] for tier in status["tiers"]}
        self.assertCountEqual([row["name"] for row in rows], [tenant["tenant"] for tenant in status["tenants"]])
        for row in rows:
            with self.subTest(row["name"]):
                self.assertEqual(row["title"], row["name"])
                self.assertTrue(row["paths"])
                for path in row["paths"]:
                    self.assertEqual(at(status, path.split(".tiers")[0].removesuffix(".pinned_bytes"))["tenant"], row["name"])
                self.assertEqual([at(status, bar["path"])["name"] for bar in row["bars"]], list(sizes))
                for bar in row["bars"]:
                    tier = at(status, bar["path"])
                    size = sizes[tier["name"]]
                    self.assertAlmostEqual(bar["filled"], 100 * tier["used_bytes"] / size, 1)
                    if row["folded"]:
                        continue  # what is folded has no place
                    if tier["guarantee_bytes"] > 0:
                        self.assertAlmostEqual(bar["guarantee"], 100 * tier["guarantee_bytes"] / size, delta=0.5)
                    else:
                        self.assertIsNone(bar["guarantee"])
                    if tier["cap_bytes"] is not None and tier["cap_bytes"] < size:
                        self.assertAlmostEqual(bar["cap"], 100 * tier["cap_bytes"] / size, delta=0.5)
                        self.assertAlmostEqual(bar["end"], 100, delta=0.5)
                    else:
                        self.assertIsNone(bar["cap"])

    def with_tenants(self, count):
        """Another service, with so many, whose page is open."""
        folder = tempfile.mkdtemp(prefix="tiercel-page-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        service = Service(folder, tenants=count)
        self.addCleanup(service.close)
        self.addCleanup(self.page.open, "about:blank")
        self.open(service.page)
        return service

    def test_1_figures_are_those_of_status(self):
        self.open(self.service.page)
        # Under load: every tier gives out blocks, and something was evicted.
        self.page.wait_for("document.querySelector('[data-figure=\"now.hit_ratio_disk\"]')?.dataset.raw > 0", 20)
        shown, status = self.same_as_status()
        for column in ("hit_ratio", "load_bytes_per_second", "promote_bytes_per_second", "load_p99_seconds"):
            self.assertGreater(status["now"][column], 0, column)
        paths = {figure["path"] for figure in shown["figures"]}
        for path in ("engines.0.kv_pool.used_bytes", "tiers.1.used_bytes", "now.demote_bytes_per_second", "errors",
                     "seconds_saved", "tenants.0.tiers.0.used_bytes", "tenants.3.tiers.1.evicted_blocks"):
            self.assertIn(path, paths)
        self.assertEqual([row["name"] for row in shown["tenants"]],
                         ["batch", "search", "default", "nightly-evaluation-of-all-branches"], "those with settings first")
        self.tenants_are_those_of_status(shown["tenants"], status)
        self.assertTrue(self.page.value("document.getElementById('more-tenants').hidden"))
        self.assertEqual(self.page.value("document.getElementById('link').dataset.state"), "live")
        self.assertIn("llama-1", self.page.value("document.getElementById('engine-list').textContent"))
        self.no_errors()

    def test_2_history_is_there_at_once(self):
        ticks = self.service.status()["tick"]
        self.assertGreater(ticks, 3)
        self.open(self.service.page)
        lines = "[...document.querySelectorAll('figure.spark .trace')].filter((e) => e.getAttribute('d').length > 8).length"
        self.page.wait_for(f"{lines} >= 6", 5)
        self.no_errors()

    def test_3_200_ms_of_latency(self):
        proxy = DelayingProxy(self.service.port, 0.1)  # each way
        try:
            self.open(f"http://127.0.0.1:{proxy.port}/")
            self.page.wait_for("document.getElementById('link').dataset.state === 'live'")
            first = self.page.value("Number(document.body.dataset.tick)")
            self.page.wait_for(f"Number(document.body.dataset.tick) >= {first + 2}")
            self.same_as_status()
            self.no_errors()
        finally:
            self.page.open("about:blank")
            proxy.close()

    def test_4_looks(self):
        self.open(self.service.page)
        self.page.wait_for("document.querySelectorAll('figure.spark .trace').length >= 6")
        os.makedirs(ARTEFACTS, exist_ok=True)
        for name, look in {"light": {"width": 1100}, "dark": {"width": 1100, "dark": True},
                           "phone": {"width": 360, "phone": True}, "phone_dark": {"width": 360, "phone": True, "dark": True}}.items():
            self.page.look(**look)
            time.sleep(0.3)
            self.assertLessEqual(self.page.value("document.documentElement.scrollWidth"), look["width"], name)
            self.page.screenshot(os.path.join(ARTEFACTS, f"page_{name}.png"))
        self.no_errors()

    def test_5_without_a_stream_it_polls(self):
        self.page.call("Network.enable")
        self.page.call("Network.setBlockedURLs", urls=["*/stream"])
        try:
            self.open(self.service.page)
            self.page.wait_for("document.getElementById('link').dataset.state === 'polling'")
            first = self.page.value("Number(document.body.dataset.tick)")
            self.page.wait_for(f"Number(document.body.dataset.tick) > {first}")
        finally:
            self.page.call("Network.setBlockedURLs", urls=[])

    def test_6_it_comes_back_with_the_service(self):
        self.open(self.service.page)
        self.page.wait_for("document.getElementById('link').dataset.state === 'live'")
        port = self.service.port
        self.service.close()
        self.page.wait_for("document.getElementById('link').dataset.state === 'lost'")
        self.assertIn("does not answer", self.page.value("document.getElementById('notice').textContent"))
        type(self).service = Service(self.folder, port)
        self.page.wait_for("document.getElementById('link').dataset.state === 'live'", 15)
        self.assertIn("was started again", self.page.value("document.getElementById('notice').textContent"))
        self.same_as_status()
        exceptions = [error for error in self.page.errors if "ERR_" not in error]
        self.assertEqual(exceptions, [], "but for the failed requests themselves")


    def test_7_one_tenant_is_what_the_tiers_show(self):
        service = self.with_tenants(1)
        self.page.wait_for("document.querySelector('[data-figure=\"tiers.0.used_bytes\"]')?.dataset.raw > 0", 30)
        _, status = self.same_as_status(service)
        self.assertEqual([tenant["tenant"] for tenant in status["tenants"]], ["default"])
        self.assertEqual(self.page.value("document.getElementById('tenants').offsetHeight"), 0)

    def test_8_of_many_tenants_the_first_are_seen_and_the_rest_unfold(self):
        service = self.with_tenants(100)
        self.page.wait_for("document.querySelector('#more-tenants [data-tenant=\"(other)\"]') !== null", 60)
        shown, status = self.same_as_status(service)
        self.assertEqual(len(status["tenants"]), 65)
        self.tenants_are_those_of_status(shown["tenants"], status)
        self.assertEqual(sum(not row["folded"] for row in shown["tenants"]), 8)
        self.assertEqual(self.page.value("document.querySelector('#more-tenants summary').textContent"), "57 more")
        self.page.value("document.querySelector('#more-tenants summary').click()")
        tick = self.page.value("Number(document.body.dataset.tick)")
        self.page.wait_for(f"Number(document.body.dataset.tick) > {tick}")
        self.assertTrue(self.page.value("document.getElementById('more-tenants').open"), "new figures fold nothing")
        self.page.look(360, phone=True)
        self.assertLessEqual(self.page.value("document.documentElement.scrollWidth"), 360)
        self.no_errors()


if __name__ == "__main__":
    PROGRAM, ARTEFACTS = sys.argv[1:3]
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
