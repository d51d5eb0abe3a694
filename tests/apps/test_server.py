"""Laws of a server's life: up before torch, one sentence when it cannot be, down when told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file

from blip_space.apps import server, uploads
from blip_space.apps.gradio_api.endpoints import MAX_ANSWERS
from blip_space.errors import UserError
from blip_space.settings import Settings
from tests.apps.conftest import free_port
from tests.apps.fake_engine import PARROT, FakeEngine

ROOT = Path(__file__).resolve().parents[2]
SERVE = """
import sys
from blip_space import settings
settings.prepare_libraries()
from blip_space.apps import server, uploads
from tests.apps.fake_engine import PARROT, FakeEngine
server.ThreadedEngine = lambda specs, **_: FakeEngine()
server.catalogue.offered = lambda name: PARROT
server.serve(settings.Settings(port=int(sys.argv[1])))
print("torch was imported" if "torch" in sys.modules else "no torch")
"""


@contextmanager
def serving() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of its own, in a process of its own."""
    port = free_port()
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port)], cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()


def wait_until_up(url: str, seconds: float = 60) -> None:
    """Return when the server answers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/healthz").raise_for_status()
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server did not come up")


def test_a_server_comes_up_without_torch_and_stops_when_told(picture: Path) -> None:
    with serving() as (process, url):
        wait_until_up(url)
        assert Client(url, verbose=False).predict(handle_file(picture), "secret words", api_name="/chat")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert re.search(rf"the page is up at {url}/ after [\d.]+ s", said)
    assert "no torch" in said
    assert "Traceback" not in said
    assert "secret" not in said
    assert "circles" not in said


def test_ports_of_kubernetes_services_are_passed_over_and_the_hosts_own_is_taken() -> None:
    """The case port-of-a-service: one was a sentence without the variable's name, the other broke Gradio's import."""
    service, port = "tcp://10.96.0.12:7860", free_port()
    ours = {"BLIP_SPACE_PORT": service, "GRADIO_SERVER_PORT": service, "PORT": str(port), "BLIP_SPACE_HOST": ""}
    command, pipe = [sys.executable, str(ROOT / "app.py")], subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | ours, stdout=pipe, stderr=subprocess.STDOUT, text=True
    )
    try:
        wait_until_up(f"http://127.0.0.1:{port}")
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    for name in ("BLIP_SPACE_PORT", "GRADIO_SERVER_PORT"):
        assert said.count(f"{name} is '{service}' and is ignored: Kubernetes sets it") == 1
    assert "Traceback" not in said


def test_a_port_in_use_is_a_sentence(url: str) -> None:
    port = int(url.rsplit(":", 1)[1])
    with pytest.raises(UserError, match=rf"port {port}: another program may use it\. Stop that one"):
        server.launch(FakeEngine(), host="127.0.0.1", port=port)


def test_replicas_without_a_cluster_are_a_sentence() -> None:
    with pytest.raises(UserError, match=r"--replicas are those of a cluster\. Name it with --ray"):
        server.serve(Settings(replicas=2))


def test_uploads_stop_before_the_disk_is_full(web: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    file = {"files": ("a.png", b"x")}
    assert web.post("/gradio_api/upload", files=file).status_code == 200
    monkeypatch.setattr(uploads, "MIN_FREE_BYTES", 10**18)
    answer = web.post("/gradio_api/upload", files=file)
    assert (answer.status_code, answer.text) == (507, uploads.DISK_FULL)
    assert web.get("/healthz").status_code == 200


def test_with_one_model_there_is_nothing_to_choose() -> None:
    from blip_space.apps import page

    shown = {
        row["props"].get("elem_id"): row["props"].get("visible")
        for row in page.build(FakeEngine(PARROT)).config["components"]
    }
    assert (shown["model"], shown["language"]) == (False, True)


def test_a_page_before_several_engines_lets_in_so_many_times_as_many() -> None:
    from blip_space.apps import page

    engine = FakeEngine(PARROT)
    engine.replicas = 3
    let_in = {event.concurrency_limit for event in page.build(engine).fns.values() if event.concurrency_id == "answers"}
    assert let_in == {3 * MAX_ANSWERS}


def test_pictures_that_a_killed_server_left_behind_go_at_the_next_start(tmp_path: Path) -> None:
    old, new = tmp_path / "a" / "old.png", tmp_path / "b" / "new.png"
    for file in (old, new):
        file.parent.mkdir()
        file.write_bytes(b"a picture")
    os.utime(old, (0, 0))
    uploads.delete_expired(tmp_path, max_age_seconds=80_000)
    assert not old.exists()
    assert new.exists()


@pytest.mark.parametrize(
    ("host", "sentence"),
    [("999.1.1.1", "'999.1.1.1' is no address of this machine"), ("192.0.2.1", "'192.0.2.1' is no address of this")],
)
def test_a_host_of_another_machine_is_told_apart_from_a_port_that_is_taken(
    host: str, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """It was told as a port that another program uses, after a line of a library's."""
    with pytest.raises(UserError, match=re.escape(sentence)):
        server.launch(FakeEngine(), host=host, port=7999)
    assert capfd.readouterr().err == ""
