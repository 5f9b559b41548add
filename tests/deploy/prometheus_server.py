"""A real Prometheus on loopback, with the shipped rules on a shorter time scale: what takes an hour takes 36 s."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

FASTER = 100
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
INTERVAL = "500ms"


def on_short_time(rules):
    """The rules with every range, offset and `for` a hundredth as long. All else stays as it is shipped."""
    def shorter(found):
        return f"{found[1]}{int(found[2]) * SECONDS[found[3]] * 1000 // FASTER}ms"
    return re.sub(r"(\[|\boffset |\bfor: )(\d+)([smhd])\b", shorter, rules)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Prometheus:
    def __init__(self, folder, targets, rules):
        """`targets`: metrics address by the name that the service gets as its instance; `rules`: text of a rules file."""
        self.folder = folder
        self.configuration = os.path.join(folder, "prometheus.yml")
        with open(os.path.join(folder, "tiercel.rules.yml"), "w", encoding="utf-8") as file:
            file.write(rules)
        with open(self.configuration, "w", encoding="utf-8") as file:
            json.dump({"global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL},  # JSON is YAML
                       "rule_files": ["tiercel.rules.yml"],
                       "scrape_configs": [{"job_name": "tiercel", "static_configs": [
                           {"targets": [address], "labels": {"instance": name}} for name, address in targets.items()]}]}, file)
        self.log = os.path.join(folder, "prometheus.log")
        self._start()

    def _start(self):
        """A port that was free may be taken by the time that Prometheus wants it: then another."""
        for _ in range(5):
            port = free_port()
            self.url = f"http://127.0.0.1:{port}"
            with open(self.log, "wb") as log:
                self.process = subprocess.Popen(
                    [shutil.which("prometheus"), f"--config.file={self.configuration}",
                     f"--storage.tsdb.path={self.folder}/data", f"--web.listen-address=127.0.0.1:{port}"],
                    stdout=log, stderr=subprocess.STDOUT)
            end = time.monotonic() + 30
            while time.monotonic() < end and self.process.poll() is None:
                try:
                    with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                        if answer.status == 200:
                            return
                except OSError:
                    time.sleep(0.1)
            self.close()
        with open(self.log, encoding="utf-8") as log:
            raise RuntimeError("Prometheus does not start:\n" + log.read()[-3000:])

    def _get(self, path, **parameters):
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            raise ValueError(f"{path} {parameters}: {refused.read().decode()}") from refused

    def query(self, expression):
        """[(labels, value)] now. ValueError: it does not parse or cannot be evaluated."""
        result = self._get("query", query=expression)
        samples = [{"metric": {}, "value": result["result"]}] if result["resultType"] == "scalar" else result["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in samples]

    def alerts(self, state="firing"):
        """{(alert, instance)} in that state now."""
        return {(alert["labels"]["alertname"], alert["labels"].get("instance", ""))
                for alert in self._get("alerts")["alerts"] if alert["state"] == state}

    def fired(self):
        """{(alert, instance)} that have been firing at some time."""
        return {(labels["alertname"], labels.get("instance", "")) for labels, _ in
                self.query('count by (alertname, instance) (count_over_time(ALERTS{alertstate="firing"}[1h]))')}

    def rules(self):
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
