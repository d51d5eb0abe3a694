"""`doctor` finds in sentences what is wrong, and exits with 1 only for what keeps a server from running."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from urllib.error import URLError

import pytest

from blip_space.apps import cli
from blip_space.apps.cli import doctor
from blip_space.errors import DeviceError
from blip_space.loading import gpu_report, memory
from tests.apps.conftest import free_port

CHECKS = ["software", "settings", "processor", "gpu", "models", "disk", "hub", "port", "locale", "fonts"]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server's defaults, and a hub that responds."""
    for name in ("MODEL", "MODELS", "DEVICE", "HOST", "PORT", "KEYS"):
        monkeypatch.delenv(f"BLIP_SPACE_{name}", raising=False)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.setattr(doctor.urllib.request, "urlopen", lambda *_, **__: socket.socket())  # type: ignore[attr-defined]


def examine(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
    """The exit code, and each check's states and sentences."""
    code = cli.main(["doctor", "--json", "--port", str(free_port()), *arguments])
    found: dict[str, list[tuple[str, str]]] = {}
    for line in capsys.readouterr().out.splitlines():
        finding = json.loads(line)
        found.setdefault(finding["check"], []).append((finding["state"], finding["sentence"]))
    return code, found


def test_a_healthy_machine_has_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = examine(capsys)
    assert (code, list(found)) == (0, CHECKS)
    sentences = [item for items in found.values() for item in items]
    assert all(state != "error" and sentence.endswith(".") for state, sentence in sentences)
    assert "tiny (fp32" in found["models"][0][1]


def test_it_prints_lines_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--port", str(free_port())]) == 0
    assert "ok       port       A server can listen on 127.0.0.1" in capsys.readouterr().out


def test_a_port_in_use_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, found = examine(capsys, "--port", str(taken.getsockname()[1]))
    assert code == 1
    assert found["port"][0][0] == "error"
    assert "another program may use it" in found["port"][0][1]


def test_an_unknown_model_and_one_that_does_not_fit_are_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, found = examine(capsys, "--model", "no-such-model")
    assert (code, found["models"][-1][0]) == (1, "error")
    monkeypatch.setattr(memory, "fitting_precisions", lambda *_, **__: ())
    code, found = examine(capsys, "--model", "tiny")
    assert (code, found["models"][-1]) == (1, ("error", "tiny does not fit the free memory. Choose another --model."))


def test_a_hub_that_does_not_respond_is_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(doctor.urllib.request, "urlopen", fail)  # type: ignore[attr-defined]
    code, found = examine(capsys)
    assert code == 0
    assert found["hub"][0][0] == "warning"
    assert "does not respond (no route)" in found["hub"][0][1]


def test_a_gpu_that_cannot_be_used_is_an_error_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise DeviceError("The driver is too old. Install a newer one.")

    monkeypatch.setattr(gpu_report, "describe_gpus", fail)
    assert examine(capsys)[1]["gpu"] == [("warning", "The driver is too old. Install a newer one.")]
    code, found = examine(capsys, "--device", "cuda:0")
    assert (code, found["gpu"][0][0]) == (1, "error")


def test_an_open_server_without_keys_is_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "warning" in [state for state, _ in examine(capsys, "--host", "0.0.0.0")[1]["settings"]]
    monkeypatch.setenv("BLIP_SPACE_KEYS", "a" * 20)
    assert examine(capsys, "--host", "0.0.0.0")[1]["settings"] == [
        ("ok", "A server would offer tiny, and one of the keys is needed.")
    ]


def test_a_check_that_fails_does_not_stop_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.metadata, "version", lambda _: 1 / 0)  # type: ignore[attr-defined]
    code, found = examine(capsys)
    assert (code, list(found)) == (0, CHECKS)
    assert found["software"][0] == ("warning", "This could not be checked: ZeroDivisionError: division by zero.")
