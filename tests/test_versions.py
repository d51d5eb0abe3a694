"""The command that runs the tests with several versions counts what pytest counts, and fails when they do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import versions
from benchmarks.versions import (
    Outcome,
    allowed_versions,
    count_results,
    failed_tests,
    installed_versions,
    lowest,
    newest,
    outside,
    table,
    with_transformers,
)

ROOT = Path(__file__).resolve().parent.parent
LINES = ["gradio==6.31.0", 'bitsandbytes>=0.49,<1; sys_platform != "darwin"', "torch>=2.8,<2.14", "hub>=2,<3"]


def test_every_minor_version_of_the_range_is_tried() -> None:
    assert allowed_versions("torch>=2\ntransformers>=5.23,<5.26\n") == ["5.23", "5.24", "5.25"]
    assert allowed_versions((ROOT / "requirements.txt").read_text("utf-8"))


@pytest.mark.parametrize("line", ["transformers", "transformers>=5.23,<6.1", "transformers>=5.23,<5.23"])
def test_range_without_versions_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match=r"requirements\.txt"):
        allowed_versions(line)


def test_an_error_counts_as_failed_and_a_skipped_test_as_neither() -> None:
    report = '<testsuites><testsuite tests="9" failures="2" errors="1" skipped="4"/></testsuites>'
    assert count_results(report) == (2, 3)


@pytest.mark.parametrize(
    ("second", "code"),
    [(Outcome("b", 5), 0), (Outcome("b", 5, 1), 1), (Outcome("b"), 1)],
    ids=["all passed", "one failed", "none ran"],
)
def test_one_bad_version_fails_the_command(
    second: Outcome, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = {"a": Outcome("a", 3, 0, 1.4), "b": second}
    ran: list[tuple[str, ...]] = []

    def run(version: str, _folder: Path, _requirements: Sequence[str], tests: Sequence[str]) -> Outcome:
        ran.append(tuple(tests))
        return outcomes[version]

    monkeypatch.setattr(versions, "run", run)
    assert versions.main(["some/tests", "--versions", "a", "b"]) == code
    assert ran == [("some/tests",)] * 2
    assert "| a | 3 | 0 | 0 | 1 |" in capsys.readouterr().out


def test_the_newest_versions_have_no_limit_and_keep_their_systems() -> None:
    assert newest(LINES, ["torch"]) == ["gradio", 'bitsandbytes; sys_platform != "darwin"', "torch>=2.8,<2.14", "hub"]


def test_the_lowest_versions_are_those_of_the_ranges() -> None:
    assert lowest(LINES, ["torch"]) == [
        "gradio==6.31.0",
        'bitsandbytes~=0.49.0; sys_platform != "darwin"',
        "torch>=2.8,<2.14",
        "hub~=2.0.0",
    ]


def test_a_version_replaces_the_range_of_transformers() -> None:
    assert with_transformers("5.24", ["tqdm", "transformers>=5.23,<5.25"]) == ["tqdm", "transformers==5.24.*"]
    assert with_transformers("5.25.0rc1", ["transformers"]) == ["transformers==5.25.0rc1"]


def test_versions_that_the_requirements_do_not_allow_are_listed() -> None:
    assert outside({"torch": "2.15.0", "hub": "2.4.0", "numpy": "3.0"}, LINES) == ("torch 2.15.0",)
    assert outside({"torch": "2.13.0+cpu"}, LINES) == ()


def test_the_versions_of_an_environment_are_those_that_pip_lists() -> None:
    assert installed_versions(sys.executable)["pytest"] == pytest.__version__


def test_failed_tests_and_warnings_are_listed_below_the_table() -> None:
    report = '<testsuite><testcase classname="tests.a" name="b"><error/></testcase><testcase name="c"/></testsuite>'
    assert failed_tests(report) == ("tests.a.b",)
    text = table([Outcome("6.0", 1, 1, 2.0, ("tests.a.b",), ("FutureWarning: x",), ("torch 2.15.0",))])
    assert "| 6.0 | 1 | 1 | 1 | 2 |" in text
    for entry in ("- tests.a.b", "- FutureWarning: x", "- torch 2.15.0"):
        assert entry in text


def test_each_different_warning_is_recorded_once(tmp_path: Path) -> None:
    (tmp_path / "test_warning.py").write_text(
        "import warnings\nimport pytest\n@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_it(n): warnings.warn('goes away\\nin detail', FutureWarning)\n",
        "utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "benchmarks.recorded_warnings"]
    command += [f"--warnings-file={tmp_path / 'warnings'}", f"--rootdir={tmp_path}", str(tmp_path / "test_warning.py")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert (tmp_path / "warnings").read_text("utf-8") == "FutureWarning: goes away\n"
