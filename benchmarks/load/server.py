"""A server in a process of its own, with a temporary folder of its own: its address, its memory, and its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 300
STOP_SECONDS = 60


class ServerProcess:
    """A server that is ready when the constructor returns."""

    def __init__(self, folder: Path, arguments: Sequence[str] = (), *, engine_process: bool = False) -> None:
        """`folder` gets the uploads and the log; with `engine_process` the engine has a process of its own."""
        self.uploads, self.log = folder / "uploads", folder / "server.log"
        self.url = f"http://127.0.0.1:{_free_port()}"
        environment = os.environ | {"GRADIO_TEMP_DIR": str(self.uploads), "PYTHONPATH": str(ROOT)}
        environment = {name: value for name, value in environment.items() if not name.startswith("BLIP_SPACE_")}
        environment["BLIP_SPACE_PROCESS"] = str(int(engine_process))
        command = [sys.executable, "-m", "benchmarks.load.server_main", "--port", self.url.rpartition(":")[2]]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *arguments], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until the model is loaded. Raises `SystemExit` if the server ends before."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/healthz", timeout=5).json()["status"] == "ready":
                    return
            except (httpx.HTTPError, ValueError):
                pass
            time.sleep(0.1)
        self.process.kill()
        raise SystemExit(f"The server did not start:\n{self.log.read_text('utf-8', 'replace')[-2000:]}")

    def memory(self) -> int:
        """The bytes that the server and the processes below it have in memory; shared pages count once for each."""
        try:
            process = psutil.Process(self.process.pid)
            return sum(_memory(each) for each in (process, *process.children(recursive=True)))
        except psutil.NoSuchProcess:
            return 0

    def send_signal(self, number: signal.Signals) -> None:
        """Send it to the server's process."""
        self.process.send_signal(number)

    def signal_engine(self, number: signal.Signals) -> None:
        """Send it to the process in which the engine runs, if there is one at the moment."""
        with suppress(psutil.NoSuchProcess):
            psutil.Process(self.engine_pid or self.process.pid).send_signal(number)

    @property
    def engine_pid(self) -> int | None:
        """The number of the engine's own process; None if it has none."""
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):
                if any("spawn_main" in part for part in child.cmdline()):
                    return int(child.pid)
        return None

    def stop(self) -> int:
        """Stop the server as a host does; its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class MemoryLog:
    """The memory of a server, each second with its time."""

    def __init__(self, server: ServerProcess, interval_seconds: float = 1.0) -> None:
        self.samples: list[tuple[float, int]] = []
        self._server, self._interval = server, interval_seconds
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryLog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def peak(self) -> int:
        """The largest sample."""
        return max((size for _, size in self.samples), default=0)

    def _watch(self) -> None:
        while not self._done.wait(self._interval):
            if size := self._server.memory():
                self.samples.append((time.monotonic(), size))


@contextmanager
def running(
    arguments: Sequence[str] = (), folder: Path | None = None, *, engine_process: bool = False
) -> Iterator[ServerProcess]:
    """A server for the time of a context. Its temporary folder is new, or a given one."""
    with tempfile.TemporaryDirectory(prefix="blip-space-load-") as own:
        server = ServerProcess(folder or Path(own), arguments, engine_process=engine_process)
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.stop()


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
