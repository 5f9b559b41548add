#!/usr/bin/env python3
"""files_test.py TIERCEL ENGINE ROOT [unittest arguments]: what in deploy/ can be checked without a Grafana, a systemd or
a container engine that runs, and what `tiercel serve` does for them.

Goal: dashboards are what their source writes and follow Grafana's form; every alert says what to do, at a place that
exists; the unit is valid and hardened; the images have the packages that the programs need; the compose files name what
exists; an engine in another process namespace is served, and its slots are free when it is killed."""

import collections
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

import yaml

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from services import Engine, Service  # noqa: E402

TIERCEL, ENGINE, ROOT = "", "", ""
OF_THE_BASE_IMAGE = {"libc6", "libgcc-s1", "zlib1g"}


def read(*names):
    with open(os.path.join(ROOT, *names), encoding="utf-8") as file:
        return file.read()


class Case(unittest.TestCase):
    def folder(self):
        made = tempfile.mkdtemp(prefix="tiercel-deploy-")
        self.addCleanup(shutil.rmtree, made, ignore_errors=True)
        return made


class Dashboards(Case):
    def dashboards(self):
        for name in ("overview", "host", "disk", "tenants"):
            yield name, json.loads(read("deploy", "grafana", f"{name}.json"))

    def test_they_are_what_their_source_writes(self):
        folder = self.folder()
        subprocess.run([sys.executable, os.path.join(ROOT, "deploy", "grafana", "make_dashboards.py"), folder], check=True)
        for name, _ in self.dashboards():
            with open(os.path.join(folder, f"{name}.json"), encoding="utf-8") as file:
                self.assertEqual(file.read(), read("deploy", "grafana", f"{name}.json"), "run deploy/grafana/make_dashboards.py")

    def test_form(self):
        for name, board in self.dashboards():
            with self.subTest(name):
                self.assertGreaterEqual(board["schemaVersion"], 39)
                self.assertIsNone(board["id"])
                self.assertEqual([variable["name"] for variable in board["templating"]["list"]], ["datasource", "instance"])
                self.assertEqual(board["templating"]["list"][0]["type"], "datasource")
                uids = set(re.findall(r'"uid": ("[^"]*"|null)', json.dumps(board)))
                self.assertEqual(uids, {"null", '"${datasource}"'}, "nothing of one Grafana's own")
                ids = [panel["id"] for panel in board["panels"]]
                self.assertEqual(len(ids), len(set(ids)))

    def test_panels(self):
        for name, board in self.dashboards():
            taken = collections.Counter()
            for panel in board["panels"]:
                place = panel["gridPos"]
                taken.update((x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"]))
                if panel["type"] == "row":
                    continue
                with self.subTest(f"{name}: {panel['title']}"):
                    self.assertTrue(panel["description"].endswith("."))
                    self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
                    self.assertTrue(panel["targets"])
                    for target in panel["targets"]:
                        selectors = re.findall(r"\b(?:tiercel_\w+|up)(\{[^}]*\})?", target["expr"])
                        self.assertTrue(selectors)
                        for selector in selectors:
                            self.assertIn('job="tiercel",instance=~"$instance"', selector)
            self.assertLess(max(x for x, _ in taken), 24)
            self.assertEqual(max(taken.values()), 1, f"{name}: panels lie over each other")


class Alerts(Case):
    def test_each_says_what_to_do_and_where_more_stands(self):
        headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", read("docs", "operations.md"), re.MULTILINE)}
        alerts = [rule for group in yaml.safe_load(read("deploy", "prometheus", "tiercel.rules.yml"))["groups"]
                  for rule in group["rules"] if "alert" in rule]
        self.assertGreater(len(alerts), 20)
        for alert in alerts:
            with self.subTest(alert["alert"]):
                self.assertIn(alert["labels"]["severity"], ("critical", "warning", "info"))
                notes = alert["annotations"]
                self.assertEqual(set(notes), {"summary", "description", "runbook"})
                self.assertIn("$labels.instance", notes["summary"])
                self.assertEqual(notes["runbook"], f"docs/operations.md#{alert['alert'].lower()}")
                self.assertIn(alert["alert"].lower(), headings)
        self.assertLessEqual(headings, {alert["alert"].lower() for alert in alerts}, "a runbook without its alert")

    def test_configurations(self):
        for folder in ("prometheus", "container"):
            there = self.folder()
            shutil.copy(os.path.join(ROOT, "deploy", folder, "prometheus.yml"), there)
            shutil.copy(os.path.join(ROOT, "deploy", "prometheus", "tiercel.rules.yml"), there)
            done = subprocess.run(["promtool", "check", "config", "prometheus.yml"], cwd=there, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Unit(Case):
    def test_it_is_valid_and_hardened(self):
        unit = os.path.join(self.folder(), "tiercel.service")
        text = read("deploy", "systemd", "tiercel.service")
        with open(unit, "w", encoding="utf-8") as file:
            file.write(text.replace("/usr/local/bin/tiercel", TIERCEL))
        verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
        self.assertEqual((verified.returncode, verified.stderr), (0, ""))
        exposed = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=15", unit],  # 1.5 of 10
                                 capture_output=True, text=True, check=False)
        self.assertEqual(exposed.returncode, 0, exposed.stdout[-200:])

    def test_it_waits_longer_than_the_service_takes_to_end(self):
        text = read("deploy", "systemd", "tiercel.service")
        deadline = int(re.search(r"--close-deadline (\d+)", text)[1])
        self.assertGreater(int(re.search(r"^TimeoutStopSec=(\d+)s$", text, re.MULTILINE)[1]), deadline + 5)
        for name in ("sidecar", "several-engines", "same-container"):
            for service in yaml.safe_load(read("deploy", "container", f"{name}.yaml"))["services"].values():
                if "stop_grace_period" in service:
                    self.assertGreater(int(service["stop_grace_period"].removesuffix("s")), 30 + 5)

    def test_its_user(self):
        done = subprocess.run(["systemd-sysusers", "--dry-run", os.path.join(ROOT, "deploy", "systemd", "tiercel.sysusers.conf")],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Tiercel node service", done.stdout + done.stderr)

    def test_its_status_for_a_wrong_configuration(self):
        status = subprocess.run([TIERCEL, "serve", "--config", "/nowhere"], capture_output=True, check=False).returncode
        self.assertIn(f"RestartPreventExitStatus={status}\n", read("deploy", "systemd", "tiercel.service"))


class Served(Case):
    """What needs a service that runs."""

    def flags(self, folder):
        os.makedirs(os.path.join(folder, "kv"), exist_ok=True)
        return ["--ram", "128MiB", "--host-prefault", "false", "--disk", os.path.join(folder, "kv"), "--disk-capacity", "128MiB",
                "--service-socket", os.path.join(folder, "s"), "--service-group", "", "--http-listen", "127.0.0.1:0",
                "--metrics-listen", "127.0.0.1:0"]

    def test_the_service_manager_is_told(self):
        for name in ("file", "abstract"):
            folder = self.folder()
            with self.subTest(name), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                path = os.path.join(folder, "notify") if name == "file" else f"@{folder}/notify"
                manager.bind(path.replace("@", "\0"))
                manager.settimeout(30)
                with subprocess.Popen([TIERCEL, "serve", *self.flags(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                      env={**os.environ, "NOTIFY_SOCKET": path}) as process:
                    try:
                        self.assertEqual(manager.recv(100), b"READY=1")
                        with socket.socket(socket.AF_UNIX) as engine:
                            engine.connect(os.path.join(folder, "s"))
                        process.send_signal(signal.SIGTERM)
                        self.assertEqual(manager.recv(100), b"STOPPING=1")
                        self.assertEqual(process.wait(40), 0)
                    finally:
                        process.kill()

    def test_the_settings_are_valid(self):
        for kind in ("systemd", "container"):
            folder = self.folder()
            with self.subTest(kind), subprocess.Popen(
                    [TIERCEL, "serve", "--config", os.path.join(ROOT, "deploy", kind, "tiercel.toml"), *self.flags(folder)],
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
                said = ""
                while "metrics    http" not in said:
                    line = process.stdout.readline()
                    self.assertNotEqual(line, "", said)
                    said += line
                process.terminate()
                self.assertEqual(process.wait(40), 0)

    def test_service_and_engine_in_one_container(self):
        folder = self.folder()
        os.makedirs(os.path.join(folder, "bin"))
        os.symlink(TIERCEL, os.path.join(folder, "bin", "tiercel"))
        os.truncate(os.open(os.path.join(folder, "empty.toml"), os.O_CREAT | os.O_WRONLY), 0)
        script = os.path.join(ROOT, "deploy", "container", "with_service.sh")
        environment = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}", "TIERCEL_SOCKET": os.path.join(folder, "s"),
                       "TIERCEL_CONFIG": os.path.join(folder, "empty.toml"),
                       "TIERCEL_SERVE": "--ram 128MiB --host-prefault false --http-listen= --metrics-listen="}

        def run(*engine, send=None):
            with subprocess.Popen([script, *engine], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL, text=True) as process:
                if send:
                    while process.stdout.readline() != "engine is up\n":
                        self.assertIsNone(process.poll())
                    process.send_signal(send)
                code = process.wait(60)
            with open(os.path.join(folder, "s.lock"), encoding="utf-8") as lock:
                self.assertFalse(os.path.exists(f"/proc/{lock.read().strip()}"), "the service is still there")
            return code

        self.assertEqual(run(ENGINE, os.path.join(folder, "s"), "engine"), 0, "it served a turn")
        self.assertEqual(run("sh", "-c", "exit 7"), 7)
        self.assertEqual(run("sh", "-c", "trap 'exit 3' TERM; echo engine is up; while :; do sleep 0.1; done", send=signal.SIGTERM), 3)
        environment["TIERCEL_SERVE"] = "--ram 1"
        self.assertEqual(run("sh", "-c", "echo must not run; exit 9"), 64, "without a service no engine")

    def test_an_engine_in_another_process_namespace(self):
        apart = ["unshare", "--pid", "--mount-proc", "--fork", "--kill-child"]
        if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("process namespaces cannot be made here")
        folder = self.folder()
        service = Service(TIERCEL, folder)
        self.addCleanup(service.close)
        engine = Engine(ENGINE, service, "elsewhere", before=apart)
        self.addCleanup(engine.close)
        engine.tell("hold 1", "pace 5")

        def held():
            with urllib.request.urlopen(service.page + "status", timeout=10) as answer:
                status = json.load(answer)
            return status["counters"]["tiercel_copy_pins"], [(one["engine"], one["pid"]) for one in status["engines"]]

        end = time.monotonic() + 30
        while held()[0] < 50 and time.monotonic() < end:
            time.sleep(0.1)
        self.assertGreaterEqual(held()[0], 50)
        self.assertEqual(held()[1][0][0], "elsewhere")
        os.kill(engine.process.pid, signal.SIGKILL)  # unshare, and with it the engine
        while held() != (0, []) and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual(held(), (0, []), "what it held is free")


class Containers(Case):
    def dockerfile(self):
        return read("deploy", "container", "Dockerfile").replace("\\\n", " ")

    def compose_files(self):
        for name in sorted(os.listdir(os.path.join(ROOT, "deploy", "container"))):
            if name.endswith(".yaml"):
                yield name, yaml.safe_load(read("deploy", "container", name))

    def packages(self, stage):
        text = re.search(rf"^FROM \S+ AS {stage}\n(.*?)(?=^FROM|\Z)", self.dockerfile(), re.MULTILINE | re.DOTALL)[1]
        return set(re.search(r"apt-get install -y --no-install-recommends (.*?)&&", text)[1].split())

    def test_what_builds_is_what_tools_setup_installs(self):
        table = re.search(r"<<'TABLE'\n(.*?)\nTABLE", read("tools", "setup"), re.DOTALL)[1]
        self.assertLessEqual(self.packages("build"), {line.split()[0] for line in table.splitlines()})

    def test_what_runs_is_what_the_program_is_linked_to(self):
        linked = subprocess.run(["ldd", TIERCEL], capture_output=True, text=True, check=True).stdout
        needed = set()
        for path in re.findall(r"=> (/\S+)", linked):
            if path.startswith(ROOT):
                continue
            # Debian's database knows a library of /lib by its path there or under /usr.
            for name in (path, "/usr" + path, os.path.realpath(path)):
                found = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True, check=False)
                if found.returncode == 0:
                    needed.add(found.stdout.split(":")[0])
                    break
            else:
                self.fail(f"of no package: {path}")
        self.assertEqual(needed - OF_THE_BASE_IMAGE, self.packages("base"))

    def test_what_it_copies_exists_and_is_let_through(self):
        let_through = re.findall(r"^!(\S+)$", read("deploy", "container", "Dockerfile.dockerignore"), re.MULTILINE)
        stages = re.findall(r"^FROM (\S+) AS (\S+)$", self.dockerfile(), re.MULTILINE)
        for source, _ in stages:
            self.assertTrue(source.startswith("debian:12") or source in [name for _, name in stages])
        for line in re.findall(r"^COPY (.*)$", self.dockerfile(), re.MULTILINE):
            words = [word for word in line.split() if not word.startswith("--")]
            if "--from=" in line:
                self.assertIn(re.search(r"--from=(\S+)", line)[1], [name for _, name in stages])
                continue
            for source in words[:-1]:
                self.assertTrue(os.path.exists(os.path.join(ROOT, source)), source)
                self.assertTrue(any(source == name or source.startswith(name + "/") for name in let_through), source)

    def test_compose_files_name_what_exists(self):
        seen = [name for name, _ in self.compose_files()]
        self.assertEqual(seen, ["same-container.yaml", "several-engines.yaml", "sidecar.yaml"])
        llama = read("connectors", "llamacpp", "options.cc")
        targets = set(re.findall(r"^FROM \S+ AS (\S+)$", self.dockerfile(), re.MULTILINE))
        for name, compose in self.compose_files():
            for service in compose["services"].values():
                with self.subTest(f"{name}: {service['image']}"):
                    if "build" in service:
                        context = os.path.normpath(os.path.join(ROOT, "deploy", "container", service["build"]["context"]))
                        self.assertEqual(context, os.path.normpath(ROOT))
                        self.assertTrue(os.path.exists(os.path.join(context, service["build"]["dockerfile"])))
                        self.assertIn(service["build"]["target"], targets)
                    for volume in service.get("volumes", []):
                        source = volume.split(":")[0]
                        if source.startswith("."):
                            self.assertTrue(os.path.exists(os.path.join(ROOT, "deploy", "container", source)), volume)
                        elif not source.startswith("$"):
                            self.assertIn(source, compose["volumes"])
                    if service["image"] == "tiercel-llama":
                        for flag in re.findall(r"--[a-z-]+", " ".join(service["command"])):
                            self.assertIn(f'"{flag}', llama)
                    self.assertLessEqual(set(service.get("depends_on", {})), set(compose["services"]))

    def test_flags_of_the_service_are_valid(self):
        told = [service["command"][1:] for _, compose in self.compose_files() for service in compose["services"].values()
                if service["image"] == "tiercel"]
        told += [service["environment"]["TIERCEL_SERVE"].split() for _, compose in self.compose_files()
                 for service in compose["services"].values() if "environment" in service]
        self.assertEqual(len(told), 3)
        for flags in told:
            flags = [word for word in flags if word not in ("--config", "/etc/tiercel.toml")]
            # An address that does not parse is found after all flags were read, and before anything is made.
            done = subprocess.run([TIERCEL, "serve", *flags, "--disk", "/var/tmp", "--http-listen", "here"], capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 64)
            self.assertTrue(done.stderr.startswith("error: http.listen: "), done.stderr)


if __name__ == "__main__":
    TIERCEL, ENGINE, ROOT = sys.argv[1:4]
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
