"""`tiercel serve` and engines without a model as processes, for tests that watch them from outside."""

import os
import resource
import select
import socket
import subprocess

from prometheus_server import free_port

RAM = ("--host-extent-bytes", "2MiB", "--host-min-slot-bytes", "256KiB", "--host-prefault", "false")


class Service:
    """One `tiercel serve`. It keeps its addresses over restarts."""

    def __init__(self, program, folder, *flags, disk="96MiB", missing=None):
        """`missing`: a directory of the disk tier, besides its own, that does not exist."""
        os.makedirs(os.path.join(folder, "kv"), exist_ok=True)
        self.socket = os.path.join(folder, "s")
        self.disk_file = os.path.join(folder, "kv", "tiercel.kv")
        self.metrics = f"127.0.0.1:{free_port()}"  # fixed, so that a restart does not change it
        self.log = os.path.join(folder, "log")
        self.command = [program, "serve", "--ram", "48MiB", *RAM, "--disk-capacity", disk,
                        "--disk", ",".join([os.path.join(folder, "kv"), *([missing] if missing else [])]),
                        "--service-socket", self.socket, "--http-listen", "127.0.0.1:0", "--metrics-listen", self.metrics, *flags]
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            # Without restore_signals it ignores SIGXFSZ, as Python does: a write beyond limit_files() is an error to it.
            self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=log, text=True, restore_signals=False)
        line = ""
        while not line.startswith("metrics"):
            line = self.process.stdout.readline()
            if line == "":
                self.process.wait()
                with open(self.log, encoding="utf-8") as text:
                    raise RuntimeError("tiercel serve ended:\n" + text.read()[-3000:])
            if line.startswith("live page"):
                self.page = line.split()[-1]

    def page_address(self):
        host, port = self.page.removeprefix("http://").strip("/").rsplit(":", 1)
        return host, int(port)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def close(self):
        """Its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.stdout.close()
        return self.process.wait()

    def memory_file(self):
        """The arena, as a file of the process."""
        folder = f"/proc/{self.process.pid}/fd"
        for name in os.listdir(folder):
            if "memfd:host.capacity" in os.readlink(os.path.join(folder, name)):
                return os.path.join(folder, name)
        raise FileNotFoundError("the service has no arena")

    def limit_files(self, size=resource.RLIM_INFINITY):
        """Writes behind so many bytes of a file fail, as on a device that fails."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def send_garbage(self):
        """A caller whose first bytes are nothing that a caller says."""
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(self.socket)
            caller.sendall(b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n")
            caller.settimeout(10)
            while caller.recv(4096):
                pass


def scribble(path, begin, step, count, size=64):
    """Overwrites `size` bytes at every step."""
    with open(path, "r+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        for at in range(begin, min(end, begin + step * count), step):
            file.seek(at)
            file.write(os.urandom(size))


class Engine:
    """commanded_engine: serves users through a service until it is closed, and does what it is told."""

    def __init__(self, program, service, name, *options, before=()):
        """`before`: a command that runs it."""
        self.process = subprocess.Popen([*before, program, service.socket, name, *options], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        try:
            self._expect("serving")
        except RuntimeError:
            self.close()
            raise

    def _expect(self, word):
        ready, _, _ = select.select([self.process.stdout], [], [], 30)
        said = self.process.stdout.readline().strip() if ready else "nothing for 30 s"
        if said != word:
            raise RuntimeError(f"the engine says {said!r} instead of {word!r}")

    def tell(self, *orders):
        for order in orders:
            self.process.stdin.write(order + "\n")
            self.process.stdin.flush()
            self._expect("done")

    def close(self):
        """Its exit status."""
        self.process.stdin.close()
        if self.process.poll() is None:
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.stdout.close()
        return self.process.wait()
