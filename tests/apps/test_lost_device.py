"""A server that has lost its GPU: it says so, ends with exit code 70, and on a Space starts itself again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from blip_space.apps import failed_process, server
from blip_space.apps.cluster.replica import EngineReplica
from blip_space.catalogue import TINY_FOLDER, read_folder
from blip_space.engine.request import EngineConfig
from blip_space.settings import Settings
from tests.apps.conftest import free_port

ROOT = Path(__file__).resolve().parents[2]
SERVE = """
import sys
from blip_space import settings
settings.prepare_libraries()
from blip_space.apps import cli
from blip_space.loading import loader
from tests.lost_device import lose_device
loader.check_image_is_used = lose_device
sys.exit(cli.main(["serve", "--port", sys.argv[1]]))
"""


def test_the_health_says_that_the_gpu_failed_and_then_the_process_ends_with_exit_code_70() -> None:
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name != "SPACE_ID"}
    environment["BLIP_SPACE_PROCESS"] = "0"  # another process would have the real loader
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port)], cwd=ROOT, env=environment, stdout=pipe, stderr=subprocess.STDOUT
    )
    try:
        health = dict[str, Any]()
        while process.poll() is None and health.get("status") != "failed":
            try:
                health = httpx.get(f"http://127.0.0.1:{port}/healthz").json()
            except httpx.TransportError:
                time.sleep(0.1)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (health.get("status"), process.returncode) == ("failed", 70), output.decode()
    assert "The GPU failed, and this process cannot use it any more" in health["error"]
    assert b"device-side assert" in output
    assert b"Traceback" in output, "the log has the error"


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What replaced the process, or the code that it ended with, after how many seconds."""
    ends = list[Any]()

    def end(*how: Any) -> None:
        ends.append(how)
        raise SystemExit

    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setattr(time, "sleep", ends.append)
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(os, "execv", end)
    return ends


def test_a_server_ends_after_a_moment_and_on_a_space_starts_again_with_its_arguments(
    ends: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        failed_process.end_server()
    assert ends == [failed_process.SECONDS, (70,)]
    ends.clear()
    monkeypatch.setenv("SPACE_ID", "someone/blip-space")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-u", "app.py", "--port", "7861"])
    with pytest.raises(SystemExit):
        failed_process.end_server()
    assert ends == [failed_process.SECONDS, (sys.executable, [sys.executable, "-u", "app.py", "--port", "7861"])]


def test_a_thread_that_does_not_stop_does_not_keep_a_server() -> None:
    """Decoding in a thread kept it for half a minute, longer than Docker waits."""
    program = """
import threading
from blip_space.apps import failed_process
threading.Thread(target=threading.Event().wait).start()
failed_process.end_after(0.1)
"""
    process = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, timeout=120, check=False)
    assert process.returncode == 0
    assert b"did not stop within 0 s" in process.stderr


def test_a_replica_ends_its_process_also_on_a_space(ends: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray replaces it."""
    monkeypatch.setenv("SPACE_ID", "someone/blip-space")
    monkeypatch.setattr("blip_space.serving.threaded.ThreadedEngine.start", lambda _: None)
    replica = EngineReplica([read_folder(TINY_FOLDER)], "auto", EngineConfig(), "cpu")
    engine: Any = replica._engine
    assert engine._machine.device == "cpu"
    with pytest.raises(SystemExit):
        engine._on_device_lost()
    assert ends == [failed_process.SECONDS, (70,)]


@pytest.mark.parametrize(
    ("process", "device", "name"),
    [
        ("", "cpu", "ThreadedEngine"),
        ("", "cuda:1", "ProcessEngine"),
        ("0", "cuda:1", "ThreadedEngine"),
        ("1", "cpu", "ProcessEngine"),
    ],
)
def test_an_engine_on_cuda_has_its_own_process_unless_a_variable_decides(
    monkeypatch: pytest.MonkeyPatch, process: str, device: str, name: str
) -> None:
    passed = list[Any]()

    def build(*_: Any, device: str, **__: Any) -> None:
        passed.append(device)
        raise KeyboardInterrupt

    monkeypatch.setenv("BLIP_SPACE_PROCESS", process)
    monkeypatch.setattr(server, name, build)
    with pytest.raises(KeyboardInterrupt):
        server.serve(Settings(device=device))
    assert passed == [device]
