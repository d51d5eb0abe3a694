"""The command line on the embedded model: what it prints, where, and its exit codes."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from blip_space import catalogue, settings
from blip_space.apps import cli
from tests.example_images import blue_circles

ROOT = Path(__file__).resolve().parents[3]
COUNT = "How many circles are there?"


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "circles.png"
    path.write_bytes(blue_circles())
    return str(path)


@pytest.fixture(autouse=True)
def _own_choices_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "PRECISION", "PORT", "MODELS"):
        monkeypatch.delenv(f"BLIP_SPACE_{name}", raising=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command run in this process."""
    code = cli.main(arguments)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_ask_answers_in_the_language_asked_for(capsys: pytest.CaptureFixture[str], picture: str) -> None:
    assert run(capsys, "ask", picture, COUNT) == (0, "three\n", "")
    assert run(capsys, "ask", picture, COUNT, "--language", "de") == (0, "drei\n", "")


def test_ask_takes_earlier_turns_from_a_file(capsys: pytest.CaptureFixture[str], picture: str, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": COUNT}, {"role": "assistant", "content": "three"}]
    (tmp_path / "turns.json").write_text(json.dumps(turns), "utf-8")
    code, out, _ = run(capsys, "ask", picture, "What colour are they?", "--history", str(tmp_path / "turns.json"))
    assert (code, out) == (0, "blue\n")


TURNS = [
    {"role": "user", "content": [{"type": "text", "text": COUNT}], "metadata": None},
    {"role": "assistant", "content": "three"},
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_history_is_read_as_gradio_6_and_as_other_systems_write_it(
    capsys: pytest.CaptureFixture[str], picture: str, tmp_path: Path, encoding: str
) -> None:
    """The case history-of-gradio-6; and a file with a byte order mark was told to be no JSON."""
    (tmp_path / "turns.json").write_text(json.dumps(TURNS), encoding)
    code, out, _ = run(capsys, "ask", picture, "What colour are they?", "--history", str(tmp_path / "turns.json"))
    assert (code, out) == (0, "blue\n")


@pytest.mark.parametrize("text", ["[" * 100_000, "[1", "\udc80", ""])
def test_a_history_that_is_no_json_is_one_line(
    capsys: pytest.CaptureFixture[str], picture: str, tmp_path: Path, text: str
) -> None:
    """A hundred thousand brackets were a RecursionError."""
    (tmp_path / "turns.json").write_text(text, "utf-8", "surrogateescape")
    code, _, err = run(capsys, "ask", picture, "?", "--history", str(tmp_path / "turns.json"))
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "is not JSON" in err


def test_a_seed_of_400_digits_is_one_line(capsys: pytest.CaptureFixture[str], picture: str) -> None:
    code, _, err = run(capsys, "ask", picture, "?", "--seed", "9" * 400)
    assert (code, err) == (
        1,
        "blip-space: seed must be a whole number from 0 to 4294967295, and a number so far beyond it is not.\n",
    )


def test_a_picture_that_is_not_known_comes_with_a_hint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.effect_noise((200, 200), 90).convert("RGB").save(tmp_path / "noise.png")
    code, out, err = run(capsys, "ask", str(tmp_path / "noise.png"), "What is this?")
    assert (code, out) == (0, "I don't know this picture.\n")
    assert "--model mblip-mt0-xl" in err


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str], picture: str) -> None:
    for command in (["ask", picture, COUNT], ["caption", picture, picture], ["models"], ["languages"]):
        code, out, _ = run(capsys, *command, "--json")
        rows = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert all(isinstance(row, dict) for row in rows)
    assert len(rows) == 96


def test_an_unreadable_picture_among_many_is_named_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], picture: str, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    code, out, err = run(capsys, "caption", str(tmp_path / "text.png"), picture, "--quality", "stream")
    assert code == 1
    assert "circles.png\t" in out
    assert "text.png: The file is not an image" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ask", "nowhere.png", "What?"], "There is no file 'nowhere.png'"),
        (["ask", "PICTURE", "What?", "--language", "xx"], "There is no language 'xx'"),
        (["ask", "PICTURE", "What?", "--language", "eo"], "does not support Esperanto"),
        (["ask", "PICTURE", "What?", "--model", "gpt"], "There is no model"),
        (["ask", "PICTURE", "What?", "--precision", "int3"], "There is no precision 'int3'"),
        (["ask", "PICTURE", "What?", "--temperature", "-1"], "temperature must be a number from 0 to 2"),
        (["ask", "PICTURE", "What?", "--max-new-tokens", "99999"], "from 1 to 512"),
        (["ask", "PICTURE", "What?", "--history", "nowhere.json"], "cannot be read"),
        (["ask", "PICTURE", "word " * 1_500 + "?"], "tokens long and there is room for"),
        (["ask", "PICTURE", "word " * 9_999 + "?"], "49,996 characters and there is room for"),
        (["serve", "--port", "http"], "--port is 'http'"),
        (["serve", "--model", "gpt"], "There is no model"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], picture: str, arguments: list[str], sentence: str
) -> None:
    code, out, err = run(capsys, *[picture if word == "PICTURE" else word for word in arguments])
    assert (code, out) == (1, "")
    assert sentence in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["ask"], ["paint"], ["ask", "a.png", "b", "--seed", "x"]])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2


def test_the_model_may_be_named_before_or_after_and_by_folder(capsys: pytest.CaptureFixture[str], picture: str) -> None:
    folder = str(catalogue.TINY_FOLDER)
    assert run(capsys, "ask", "--model", folder, picture, COUNT)[:2] == (0, "three\n")
    assert run(capsys, "ask", picture, COUNT, "--model", folder, "--precision", "bf16")[:2] == (0, "three\n")


def test_a_checkout_that_is_not_installed_runs_and_prints_utf8() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "blip_space", "languages"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "हिन्दी" in done.stdout


def test_serve_takes_its_flags_into_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[settings.Settings] = []
    monkeypatch.setattr("blip_space.apps.server.serve", served.append)
    assert cli.main(["serve", "--port", "8001", "--host", "0.0.0.0", "--models", "mblip-mt0-xl"]) == 0
    assert served == [settings.Settings("tiny", "auto", "0.0.0.0", 8001, ("tiny", "mblip-mt0-xl"))]


def test_what_goes_wrong_in_the_program_is_a_line_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "languages")
    logging.getLogger("blip_space.somewhere").error("a caption failed", exc_info=ValueError("no number"))
    assert capsys.readouterr().err == "blip-space: a caption failed (ValueError: no number)\n"


def test_neither_an_empty_variable_nor_a_bad_port_breaks_a_question(
    capsys: pytest.CaptureFixture[str], picture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLIP_SPACE_MODEL", "")
    monkeypatch.setenv("BLIP_SPACE_PORT", "abc")
    assert run(capsys, "ask", picture, COUNT) == (0, "three\n", "")
    code, out, err = run(capsys, "ask", picture, COUNT, "--model", "")
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
