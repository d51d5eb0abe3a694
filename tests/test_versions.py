"""The command that runs the tests with several versions counts what pytest counts, and fails when they do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import versions
from benchmarks.versions import Outcome, allowed_versions, count_results

ROOT = Path(__file__).resolve().parent.parent


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

    def run(version: str, _folder: Path, _requirements: str, tests: Sequence[str]) -> Outcome:
        ran.append(tuple(tests))
        return outcomes[version]

    monkeypatch.setattr(versions, "run", run)
    assert versions.main(["some/tests", "--versions", "a", "b"]) == code
    assert ran == [("some/tests",)] * 2
    assert "| a | 3 | 0 | 1 |" in capsys.readouterr().out
