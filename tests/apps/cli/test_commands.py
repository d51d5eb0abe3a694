"""The command line on the embedded model: what it prints, where, and its exit codes."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from blip_space import catalogue, settings
from blip_space.apps import cli
from blip_space.errors import DEVICE_EXIT_CODE
from tests.example_images import blue_circles
from tests.lost_device import lose_device

ROOT = Path(__file__).resolve().parents[3]
COUNT = "How many circles are there?"


@pytest.fixture
def image_file(tmp_path: Path) -> str:
    path = tmp_path / "circles.png"
    path.write_bytes(blue_circles())
    return str(path)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "PRECISION", "DEVICE", "PORT", "MODELS"):
        monkeypatch.delenv(f"BLIP_SPACE_{name}", raising=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command run in this process."""
    code = cli.main(arguments)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_ask_answers_in_the_requested_language(capsys: pytest.CaptureFixture[str], image_file: str) -> None:
    assert run(capsys, "ask", image_file, COUNT) == (0, "three\n", "")
    assert run(capsys, "ask", image_file, COUNT, "--language", "de") == (0, "drei\n", "")


def test_ask_takes_earlier_turns_from_a_file(
    capsys: pytest.CaptureFixture[str], image_file: str, tmp_path: Path
) -> None:
    turns = [{"role": "user", "content": COUNT}, {"role": "assistant", "content": "three"}]
    (tmp_path / "turns.json").write_text(json.dumps(turns), "utf-8")
    code, out, _ = run(capsys, "ask", image_file, "What colour are they?", "--history", str(tmp_path / "turns.json"))
    assert (code, out) == (0, "blue\n")


TURNS = [
    {"role": "user", "content": [{"type": "text", "text": COUNT}], "metadata": None},
    {"role": "assistant", "content": "three"},
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_history_is_read_in_the_form_of_gradio_6_and_in_any_unicode_encoding(
    capsys: pytest.CaptureFixture[str], image_file: str, tmp_path: Path, encoding: str
) -> None:
    """Case history-of-gradio-6; and a file with a byte order mark was rejected as not JSON."""
    (tmp_path / "turns.json").write_text(json.dumps(TURNS), encoding)
    code, out, _ = run(capsys, "ask", image_file, "What colour are they?", "--history", str(tmp_path / "turns.json"))
    assert (code, out) == (0, "blue\n")


@pytest.mark.parametrize("text", ["[" * 100_000, "[1", "\udc80", ""])
def test_a_history_that_is_not_json_is_one_line(
    capsys: pytest.CaptureFixture[str], image_file: str, tmp_path: Path, text: str
) -> None:
    """A hundred thousand brackets raised a RecursionError."""
    (tmp_path / "turns.json").write_text(text, "utf-8", "surrogateescape")
    code, _, err = run(capsys, "ask", image_file, "?", "--history", str(tmp_path / "turns.json"))
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "is not JSON" in err


def test_a_seed_of_400_digits_is_one_line(capsys: pytest.CaptureFixture[str], image_file: str) -> None:
    code, _, err = run(capsys, "ask", image_file, "?", "--seed", "9" * 400)
    assert (code, err) == (
        1,
        "blip-space: seed must be a whole number from 0 to 4294967295; the given number is far outside this range.\n",
    )


def test_an_unknown_image_comes_with_a_hint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.effect_noise((200, 200), 90).convert("RGB").save(tmp_path / "noise.png")
    code, out, err = run(capsys, "ask", str(tmp_path / "noise.png"), "What is this?")
    assert (code, out) == (0, "I don't know this picture.\n")
    assert "--model mblip-mt0-xl" in err


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str], image_file: str) -> None:
    for command in (["ask", image_file, COUNT], ["caption", image_file, image_file], ["models"], ["languages"]):
        code, out, _ = run(capsys, *command, "--json")
        rows = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert all(isinstance(row, dict) for row in rows)
    assert len(rows) == 96


def test_an_unreadable_image_is_reported_and_the_others_are_captioned(
    capsys: pytest.CaptureFixture[str], image_file: str, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no image")
    code, out, err = run(capsys, "caption", str(tmp_path / "text.png"), image_file, "--quality", "stream")
    assert code == 1
    assert "circles.png\t" in out
    assert "text.png: The file is not an image" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ask", "nowhere.png", "What?"], "There is no file 'nowhere.png'"),
        (["ask", "IMAGE", "What?", "--language", "xx"], "There is no language 'xx'"),
        (["ask", "IMAGE", "What?", "--language", "eo"], "does not support Esperanto"),
        (["ask", "IMAGE", "What?", "--model", "gpt"], "There is no model"),
        (["ask", "IMAGE", "What?", "--precision", "int3"], "There is no precision 'int3'"),
        (["ask", "IMAGE", "What?", "--temperature", "-1"], "temperature must be a number from 0 to 2"),
        (["ask", "IMAGE", "What?", "--max-new-tokens", "99999"], "from 1 to 512"),
        (["ask", "IMAGE", "What?", "--history", "nowhere.json"], "cannot be read"),
        (["ask", "IMAGE", "word " * 1_500 + "?"], "The question is too long: it has "),
        (["ask", "IMAGE", "word " * 9_999 + "?"], "it has 49,996 characters, and at most about"),
        (["serve", "--port", "http"], "--port is 'http'"),
        (["serve", "--model", "gpt"], "There is no model"),
        (["ask", "PIPE", "What?"], "'pipe.png' is a pipe or a device, not a file"),
        (["ask", "IMAGE", "What?", "--history", "PIPE"], "is a folder, a pipe or a device"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], image_file: str, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    pipe = tmp_path / "pipe.png"  # reading it would wait for a writer
    os.mkfifo(pipe)
    names = {"IMAGE": image_file, "PIPE": str(pipe)}
    code, out, err = run(capsys, *[names.get(word, word) for word in arguments])
    assert (code, out) == (1, "")
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_a_server_without_a_temporary_folder_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, image_file: str
) -> None:
    """It was a traceback of the library that wrote there first."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", f"{image_file}/uploads")
    code, out, err = run(capsys, "serve")
    assert (code, out) == (1, "")
    assert "Uploads cannot be stored in" in err
    assert len(err.splitlines()) == 1


def test_help_does_not_depend_on_the_terminal_and_describes_every_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in ([], ["ask"], ["caption"], ["folder"], ["models"], ["languages"], ["serve"]):
        texts = set()
        for columns in ("40", "200"):
            monkeypatch.setenv("COLUMNS", columns)
            with pytest.raises(SystemExit):
                cli.main([*command, "--help"])
            texts.add(capsys.readouterr().out)
        assert len(texts) == 1
        options = texts.pop().split("\noptions:\n")[1]
        assert len(re.findall(r"^  -", options, re.MULTILINE)) == len(re.findall(r"\.$", options, re.MULTILINE))


@pytest.mark.parametrize("arguments", [[], ["ask"], ["paint"], ["ask", "a.png", "b", "--seed", "x"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2


def test_the_model_is_named_before_or_after_and_by_folder(capsys: pytest.CaptureFixture[str], image_file: str) -> None:
    folder = str(catalogue.TINY_FOLDER)
    assert run(capsys, "ask", "--model", folder, image_file, COUNT)[:2] == (0, "three\n")
    assert run(capsys, "ask", image_file, COUNT, "--model", folder, "--precision", "bf16")[:2] == (0, "three\n")


def test_a_checkout_that_is_not_installed_runs_and_prints_utf8() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "blip_space", "languages"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "हिन्दी" in process.stdout


def test_serve_passes_its_options_to_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[settings.Settings] = []
    monkeypatch.setattr("blip_space.apps.server.serve", started.append)
    assert cli.main(["serve", "--port", "8001", "--host", "0.0.0.0", "--models", "mblip-mt0-xl"]) == 0
    assert started == [settings.Settings("tiny", "auto", "0.0.0.0", 8001, ("tiny", "mblip-mt0-xl"))]


@pytest.mark.parametrize("command", ["ask", "caption"])
def test_a_failed_gpu_ends_the_command_with_exit_code_70_and_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, image_file: str, command: str
) -> None:
    """No further image is tried: it would fail too."""
    monkeypatch.setattr("blip_space.engine.model_runner.ModelRunner.run", lose_device)
    images = [image_file] if command == "ask" else [image_file] * 3
    code, out, err = run(capsys, command, *images)
    assert (code, out) == (DEVICE_EXIT_CODE, "") == (70, "")
    assert err.count("The GPU failed, and this process cannot use it any more") == 1
    assert err.count("device-side assert") == 1


def test_a_device_is_chosen_by_an_option_or_a_variable(
    capsys: pytest.CaptureFixture[str], image_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, "ask", image_file, COUNT, "--device", "cpu") == (0, "three\n", "")
    code, _, err = run(capsys, "ask", image_file, COUNT, "--device", "gpu")
    assert (code, "'gpu' is not a device that a model can run on. Choose auto" in err) == (1, True)
    monkeypatch.setenv("BLIP_SPACE_DEVICE", "tpu")
    code, _, err = run(capsys, "ask", image_file, COUNT)
    assert (code, err.strip().endswith("That comes from BLIP_SPACE_DEVICE.")) == (1, True)


def test_a_logged_error_is_one_line_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "languages")
    logging.getLogger("blip_space.somewhere").error("a caption failed", exc_info=ValueError("no number"))
    assert capsys.readouterr().err == "blip-space: a caption failed (ValueError: no number)\n"


def test_an_empty_variable_and_an_invalid_port_do_not_matter_to_ask(
    capsys: pytest.CaptureFixture[str], image_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLIP_SPACE_MODEL", "")
    monkeypatch.setenv("BLIP_SPACE_PORT", "abc")
    assert run(capsys, "ask", image_file, COUNT) == (0, "three\n", "")
    code, out, err = run(capsys, "ask", image_file, COUNT, "--model", "")
    assert (code, out) == (1, "")
    assert "--model is empty. Name one, or leave the option out." in err


def test_two_folders_of_one_name_are_refused_before_anything_listens(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folders = [tmp_path / part / "same" for part in "ab"]
    for folder in folders:
        folder.mkdir(parents=True)
    code, out, err = run(capsys, "serve", "--models", ",".join(map(str, folders)))
    assert (code, out) == (1, "")
    assert all(str(folder) in err for folder in folders)
