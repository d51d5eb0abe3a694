"""Laws of the server: it is up before torch is imported, reports errors in one sentence, and stops on SIGTERM."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file

from blip_space.apps import server, uploads
from blip_space.apps.gradio_api.endpoints import MAX_ANSWERS
from blip_space.apps.http.upload_failures import DISK_FULL
from blip_space.errors import UserError
from blip_space.serving.routed import RoutedEngine
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
    """A server in its own process."""
    port = free_port()
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port)],
        cwd=ROOT,
        env=os.environ | {"BLIP_SPACE_PROCESS": "0"},  # the fake engine
        stdout=pipe,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()


def wait_until_up(url: str, seconds: float = 240, *, path: str = "healthz") -> None:
    """Return when the server responds, and with success."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/{path}").raise_for_status()
        except (httpx.TransportError, httpx.HTTPStatusError):
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the server did not come up")


def test_a_server_starts_without_torch_and_stops_on_sigterm(image_file: Path) -> None:
    with serving() as (process, url):
        wait_until_up(url)
        assert Client(url, verbose=False).predict(handle_file(image_file), "secret prompt", api_name="/chat")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert re.search(rf"the page is up at {url}/ after [\d.]+ s", output)
    assert "no torch" in output
    assert "Traceback" not in output
    assert "secret" not in output
    assert "circles" not in output


def test_ports_of_kubernetes_services_are_ignored_and_the_hosts_port_is_used() -> None:
    """The case port-of-a-service: one was reported without the variable's name, the other broke Gradio's import.

    The host also has a proxy, which Gradio asked for its own page, and connects from outside.
    """
    service, port = "tcp://10.96.0.12:7860", free_port()
    variables = {"BLIP_SPACE_PORT": service, "GRADIO_SERVER_PORT": service, "PORT": str(port), "BLIP_SPACE_HOST": ""}
    variables |= dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    variables |= dict.fromkeys(("no_proxy", "NO_PROXY", "GRADIO_SERVER_NAME"), "")
    command, pipe = [sys.executable, str(ROOT / "app.py")], subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | variables, stdout=pipe, stderr=subprocess.STDOUT, text=True
    )
    try:
        wait_until_up(f"http://127.0.0.2:{port}", path="readyz")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    for name in ("BLIP_SPACE_PORT", "GRADIO_SERVER_PORT"):
        assert output.count(f"{name} is '{service}' and is ignored: Kubernetes sets it") == 1
    assert "Traceback" not in output
    assert process.returncode == 0


def test_a_socks_proxy_without_its_package_is_a_sentence(tmp_path: Path) -> None:
    variables = {"ALL_PROXY": "socks5://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    for arguments in (["serve"], ["ask", "assets/examples/octopus.png", "?", "--model", "blip2-opt-2.7b"]):
        command = [sys.executable, "-m", "blip_space", *arguments]
        ended = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True)
        assert (ended.returncode, ended.stderr.strip().count("\n")) == (1, 0), ended.stderr
        assert "ALL_PROXY names a SOCKS proxy, which needs the package socksio." in ended.stderr


def test_a_busy_machine_does_not_keep_a_server_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradio asks for its own page, and gives up after 3 s."""
    from gradio import networking

    monkeypatch.setattr(networking, "url_ok", lambda _url: False)
    running = server.launch(FakeEngine(), host="127.0.0.1", port=free_port())
    assert httpx.get(f"{running.url}healthz").json()["status"] == "ready"
    running.close()


def test_a_port_in_use_is_refused(url: str) -> None:
    port = int(url.rsplit(":", 1)[1])
    with pytest.raises(UserError, match=rf"port {port}: another program may use it\. Stop that program"):
        server.launch(FakeEngine(), host="127.0.0.1", port=port)


def test_replicas_without_a_cluster_are_refused() -> None:
    with pytest.raises(UserError, match=r"--replicas needs a cluster\. Name it with --ray"):
        server.serve(Settings(replicas=2))


def test_uploads_stop_before_the_disk_is_full(web: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    file = {"files": ("a.png", b"x")}
    assert web.post("/gradio_api/upload", files=file).status_code == 200
    monkeypatch.setattr(uploads.UploadStorage, "_free_bytes", lambda _: 999_999_999)
    response = web.post("/gradio_api/upload", files=file)
    assert (response.status_code, response.text) == (507, DISK_FULL.sentence)
    assert web.get("/healthz").status_code == 200


def test_with_one_model_the_list_of_models_is_hidden() -> None:
    from blip_space.apps import page

    visible = {
        component["props"].get("elem_id"): component["props"].get("visible")
        for component in page.build(FakeEngine(PARROT)).config["components"]
    }
    assert (visible["model"], visible["language"]) == (False, True)


def test_the_concurrency_limit_grows_with_the_replicas() -> None:
    from blip_space.apps import page

    engine = FakeEngine(PARROT)
    engine.replicas = 3
    limits = {event.concurrency_limit for event in page.build(engine).fns.values() if event.concurrency_id == "answers"}
    assert limits == {3 * MAX_ANSWERS}


def test_images_of_a_killed_server_are_deleted_at_the_next_start(tmp_path: Path) -> None:
    old, new = tmp_path / "a" / "old.png", tmp_path / "b" / "new.png"
    for file in (old, new):
        file.parent.mkdir()
        file.write_bytes(b"an image")
    os.utime(old, (0, 0))
    uploads.delete_expired(tmp_path, max_age_seconds=80_000)
    assert not old.exists()
    assert new.exists()


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("999.1.1.1", "'999.1.1.1' is not an address of this machine"),
        ("192.0.2.1", "'192.0.2.1' is not an address of this"),
    ],
)
def test_a_foreign_host_and_a_used_port_have_different_errors(
    host: str, sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """It was reported as a port in use, after a line of a library's."""
    with pytest.raises(UserError, match=re.escape(sentence)):
        server.launch(FakeEngine(), host=host, port=7999)
    assert capfd.readouterr().err == ""


def test_several_gpus_have_an_engine_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are divided among them; a single device has its engine itself."""
    built = list[str]()

    def build(*_: object, device: str, **__: object) -> FakeEngine:
        built.append(device)
        return FakeEngine()

    monkeypatch.setattr(server, "ProcessEngine", build)
    single = server._create_engine([PARROT], Settings(device="cuda:1"), threading.Event())
    several = server._create_engine([PARROT], Settings(device="cuda:0,cuda:1"), threading.Event())
    assert built == ["cuda:1", "cuda:0", "cuda:1"]
    assert isinstance(single, FakeEngine)
    assert isinstance(several, RoutedEngine)
    assert several.replicas == 2
    with pytest.raises(UserError, match="cannot be one of several devices"):
        server._create_engine([PARROT], Settings(device="cuda:0,cpu"), threading.Event())
