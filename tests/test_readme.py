"""What the README and the repository promise is so."""

import re
import subprocess
from pathlib import Path

import pytest

from blip_space.apps import cli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
REQUIREMENTS = (ROOT / "requirements.txt").read_text("utf-8").split("\n")


def test_the_two_commands_stand_in_its_first_thirty_lines() -> None:
    first = README.splitlines()[:30]
    assert "pip install -r requirements.txt && python app.py" in first
    assert 'pip install -e ".[dev]" && pytest' in first


def test_the_spaces_gradio_is_the_one_that_is_installed() -> None:
    (version,) = re.findall(r"^sdk_version: (\S+)$", README, re.MULTILINE)
    assert f"gradio=={version}" in REQUIREMENTS
    assert "\nsdk: gradio\n" in README
    assert "\napp_file: app.py\n" in README


def test_the_short_description_is_as_short_as_a_space_wants_it() -> None:
    (text,) = re.findall(r"^short_description: (.+)$", README, re.MULTILINE)
    assert len(text) <= 60


def test_the_table_of_models_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "--markdown"]) == 0
    assert capsys.readouterr().out in README


def test_each_dependency_has_its_reason() -> None:
    reasons = README.split("## What each dependency is for")[1]
    for line in filter(None, REQUIREMENTS):
        assert re.split(r"[<>=;]", line)[0] in reasons


def test_every_command_is_shown_and_exists(capsys: pytest.CaptureFixture[str]) -> None:
    for name in re.findall(r"python -m blip_space (\w+)", README):
        with pytest.raises(SystemExit) as ended:
            cli.main([name, "--help"])
        assert ended.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_every_file_that_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README) + re.findall(r'handle_file\("([^"]+)"\)', README):
        assert (ROOT / target).is_file(), target


def test_no_committed_file_needs_large_file_storage() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    assert not [path.name for path in paths if path.is_file() and path.stat().st_size > 10_000_000]
