"""`python app.py` whose engine has a process of its own: what ends with what, and which of the two has torch."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file

from tests.example_images import blue_circles
from tests.test_end_to_end import COUNT, App, wait_for_status

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads Linux's list of processes")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    running = App(tmp_path, separate=True)
    wait_for_status(running.health, "ready")
    yield running
    if running.process.poll() is None:
        running.close()


def children(process: int) -> list[int]:
    """The processes for engines that a process started."""
    return started(process, "spawn_main")


def started(process: int, program: str) -> list[int]:
    """The processes of a program that a process started."""
    lists = Path(f"/proc/{process}/task").glob("*/children")
    numbers = [int(number) for file in lists for number in file.read_text().split()]
    return [number for number in numbers if program.encode() in Path(f"/proc/{number}/cmdline").read_bytes()]


def has_torch(process: int) -> bool:
    return "libtorch" in Path(f"/proc/{process}/maps").read_text()


def ends(process: int) -> bool:
    """Whether a process ends."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if "State:\tZ" in Path(f"/proc/{process}/status").read_text():
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def count(app: App, folder: Path) -> str:
    (folder / "circles.png").write_bytes(blue_circles())
    client = Client(app.url, verbose=False)
    return str(client.predict(handle_file(folder / "circles.png"), COUNT["en"], api_name="/chat"))


def test_only_the_engines_process_has_torch_and_it_is_replaced_when_it_ends(app: App, tmp_path: Path) -> None:
    (engine,) = children(app.process.pid)
    assert has_torch(engine)
    assert count(app, tmp_path) == "three"
    assert not has_torch(app.process.pid)
    assert started(engine, "decoder_main")
    assert not started(app.process.pid, "decoder_main"), "a server's limits are those of one pool"
    os.kill(engine, signal.SIGKILL)
    wait_for_status(app.health, "loading")
    wait_for_status(app.health, "ready")
    assert app.health()["restarts"] == 1
    assert children(app.process.pid) != [engine]
    assert count(app, tmp_path) == "three"
    assert "the engine's process ended with exit code -9" in app.log.read_text()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_engines_process_ends_with_the_server(app: App, how: signal.Signals) -> None:
    (engine,) = children(app.process.pid)
    if how == signal.SIGINT:
        os.kill(engine, how)  # a terminal sends it to both
        time.sleep(0.2)
        assert children(app.process.pid) == [engine]
    app.process.send_signal(how)
    assert app.process.wait(120) == (-9 if how == signal.SIGKILL else 0)
    assert ends(engine)
    assert "Traceback" not in app.log.read_text()
