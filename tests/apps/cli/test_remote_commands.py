"""The commands with a model of another server: `ask`, `caption` and `folder`, and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from blip_space.apps import cli
from blip_space.images import digest
from blip_space.serving.remote import attempts
from tests.apps.cli.folder_command import read_rows
from tests.example_images import blue_circles
from tests.serving.remote.openai_server import OpenAIServer, running_server

CAPTION = "Describe this image in one sentence, in English. of echo"


@pytest.fixture(scope="module")
def _remote() -> Iterator[OpenAIServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def server(_remote: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> OpenAIServer:
    monkeypatch.setattr(attempts, "BACKOFF_SECONDS", 0.01)
    _remote.requests.clear()
    _remote.keys.clear()
    return _remote


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three images, two of them equal, and a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, count in (("a", 1), ("b", 2), ("copy of b", 2)):
        (folder / f"{name}.png").write_bytes(blue_circles(count))
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command run in this process."""
    code = cli.main(list(map(str, arguments)))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_ask_prints_the_answer_of_the_server(
    capsys: pytest.CaptureFixture[str], server: OpenAIServer, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLIP_SPACE_OPENAI_KEY", "a-key-for-the-test")
    model = server.name("echo")
    code, out, err = run(capsys, "ask", pictures / "a.png", "Why?", "--language", "sw", "--model", model)
    assert (code, out, err) == (0, "Why? Answer in Swahili. of echo\n", "")
    assert server.keys == ["Bearer a-key-for-the-test"]
    code, out, _ = run(capsys, "ask", pictures / "a.png", "Why?", "--json", "--model", model)
    reply = json.loads(out)
    assert (reply["model"], reply["precision"]) == ("echo", "remote")


def test_caption_goes_on_after_an_error(
    capsys: pytest.CaptureFixture[str], server: OpenAIServer, pictures: Path
) -> None:
    files = [pictures / "broken.png", pictures / "a.png"]
    code, out, err = run(capsys, "caption", *files, "--model", server.name("echo"))
    assert (code, out) == (1, f"{files[1]}\t{CAPTION}\n")
    assert "broken.png" in err


def test_a_folder_is_captioned_once_and_resumes(
    capsys: pytest.CaptureFixture[str], server: OpenAIServer, pictures: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    arguments = ("folder", pictures, "--output", output, "--model", server.name("echo"), "--batch-size", "2")
    code, _, err = run(capsys, *arguments)
    rows = {row["file"]: row for row in read_rows(output)}
    assert code == 1
    assert "2 captions generated, 1 copied from duplicate images, 0 already done, 1 errors" in err
    assert [rows[name]["caption"] for name in ("a.png", "b.png", "copy of b.png")] == [CAPTION] * 3
    assert rows["a.png"]["digest"] == digest((pictures / "a.png").read_bytes())
    assert (rows["a.png"]["model"], rows["a.png"]["precision"]) == ("echo", "remote")
    assert rows["a.png"]["tokens"] == len(CAPTION.split()) + 1
    assert "not an image" in rows["broken.png"]["error"]
    server.requests.clear()
    run(capsys, *arguments)
    assert not server.requests
    (pictures / "new.png").write_bytes(blue_circles(4))
    run(capsys, *arguments)
    assert len(server.requests) == 1


def test_a_folder_stops_when_the_server_cannot_be_used_and_goes_on_later(
    capsys: pytest.CaptureFixture[str], server: OpenAIServer, pictures: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    code, _, err = run(capsys, "folder", pictures, "--output", output, "--model", server.name("status-401"))
    assert code == 1
    assert "refuses the key" in err
    assert "All captions so far are saved; the same command resumes." in err
    assert [row["file"] for row in read_rows(output)] in ([], ["broken.png"])
    code, _, err = run(capsys, "folder", pictures, "--output", output, "--model", server.name("busy-once"))
    assert "2 captions generated" in err


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["--adapter", "lora"], "so it takes no --adapter"),
    (["--precision", "int8"], "Leave --precision out"),
    (["--device", "cuda:0"], "Leave --device out"),
    (["--ray", "local"], "so it needs no cluster"),
    (["--model", "openai:nothing"], "openai:http://127.0.0.1:8000/v1#llava"),
])  # fmt: skip
def test_options_that_a_remote_model_does_not_take_are_refused(
    capsys: pytest.CaptureFixture[str],
    server: OpenAIServer,
    pictures: Path,
    tmp_path: Path,
    arguments: list[str],
    sentence: str,
) -> None:
    output = tmp_path / "out.jsonl"
    model = ["--model", server.name("echo")]
    code, _, err = run(capsys, "folder", pictures, "--output", output, *model, *arguments)
    assert (code, sentence in err) == (1, True)
    assert not server.requests


def test_doctor_says_whether_the_server_responds(capsys: pytest.CaptureFixture[str], server: OpenAIServer) -> None:
    assert (
        f"{server.host} responds, and would answer as echo." in run(capsys, "doctor", "--model", server.name("echo"))[1]
    )
    assert "lists echo, second, and not 'other'" in run(capsys, "doctor", "--model", server.name("other"))[1]
