"""`python -m benchmarks.versions`: the tests of models and of their engine with each transformers that is allowed.

For every minor version in the range of requirements.txt it makes a virtual environment, installs what the tests need,
runs them and prints a table. Exits with 1 where a test fails or an environment cannot be made. `--versions` names
others, a coming one for instance; with `--folder` the environments are kept, and used again by the next run.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("tests/models", "tests/loading", "tests/engine/models")
FOR_TESTS = ("peft>=0.17,<1", "pytest>=8.3", "pytest-timeout>=2.3")


@dataclass(frozen=True)
class Outcome:
    """What one version's tests came to; `version` is the one that was installed."""

    version: str
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """No test failed, and there were some."""
        return self.passed > 0 and not self.failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests with each version; 0 where all pass."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions", description=__doc__)
    parser.add_argument("tests", nargs="*", default=TESTS, help=f"files or folders; {' '.join(TESTS)} by default")
    parser.add_argument("--versions", nargs="+", metavar="VERSION", help="5.24 is its newest patch; 5.24.0 that one")
    parser.add_argument("--folder", type=Path, help="where the environments are made and kept")
    given = parser.parse_args(arguments)
    requirements = (ROOT / "requirements.txt").read_text("utf-8")
    with tempfile.TemporaryDirectory() as temporary:
        place = given.folder or Path(temporary)
        outcomes = [
            run(version, place.resolve() / version, requirements, given.tests)
            for version in given.versions or allowed_versions(requirements)
        ]
    print(table(outcomes))
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


def allowed_versions(requirements: str) -> list[str]:
    """The minor versions of transformers, such as `5.23`, that these lines of requirements allow."""
    found = re.search(r"^transformers>=(\d+)\.(\d+),<(\d+)\.(\d+)$", requirements, re.MULTILINE)
    if not found:
        raise ValueError("requirements.txt has no line like transformers>=5.23,<5.25")
    major, first, next_major, end = map(int, found.groups())
    if major != next_major or first >= end:
        raise ValueError("requirements.txt allows transformers of more than one major version, or none")
    return [f"{major}.{minor}" for minor in range(first, end)]


def run(version: str, folder: Path, requirements: str, tests: Sequence[str]) -> Outcome:
    """Install that version into an environment in `folder` and run the tests there."""
    print(f"== transformers {version}", flush=True)
    python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    try:
        if not Path(python).exists():
            venv.create(folder, with_pip=True)
        install(python, version, requirements)
        name = "import transformers; print(transformers.__version__)"
        installed = subprocess.run([python, "-c", name], check=True, capture_output=True, text=True).stdout.split()[-1]
    except subprocess.CalledProcessError as error:
        print(f"no environment: {error}", flush=True)
        return Outcome(version)
    report, started = folder / "report.xml", time.monotonic()
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    code = subprocess.run(command, cwd=ROOT).returncode
    seconds = time.monotonic() - started
    passed, failed = count_results(report.read_text("utf-8")) if report.exists() else (0, 0)
    return Outcome(installed, passed, failed or int(code != 0), seconds)


def install(python: str, version: str, requirements: str) -> None:
    """The requirements with that version of transformers in place of the range, and what the tests need beside them."""
    others = [line for line in requirements.splitlines() if line and not line.startswith("transformers")]
    wanted = f"transformers=={version}" + (".*" if version.count(".") == 1 else "")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *others, *FOR_TESTS, wanted], check=True, cwd=ROOT)


def count_results(report: str) -> tuple[int, int]:
    """How many tests passed and failed, an error being a failure, by pytest's report in JUnit's format."""
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in ElementTree.fromstring(report).iter("testsuite"):
        for key in totals:
            totals[key] += int(suite.get(key, 0))
    failed = totals["failures"] + totals["errors"]
    return totals["tests"] - failed - totals["skipped"], failed


def table(outcomes: Sequence[Outcome]) -> str:
    """A line for each version."""
    lines = [
        f"| {outcome.version} | {outcome.passed} | {outcome.failed} | {outcome.seconds:.0f} |" for outcome in outcomes
    ]
    return "\n".join(["| transformers | passed | failed | seconds |", "|---|--:|--:|--:|", *lines])


if __name__ == "__main__":
    sys.exit(main())
