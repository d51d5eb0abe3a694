"""`python -m benchmarks.versions`: run the tests of models and engine with each supported transformers version.

For every minor version in the range of requirements.txt it creates a virtual environment, installs the requirements,
runs the tests and prints a table. The exit code is 1 if a test fails or an environment cannot be created. `--versions`
selects others, for example a release candidate; with `--folder` the environments are kept for the next run.
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
    """The test results of one version; `version` is the installed one."""

    version: str
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether tests ran and none failed."""
        return self.passed > 0 and not self.failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests with each version; returns 0 if all pass."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions", description=__doc__)
    parser.add_argument("tests", nargs="*", default=TESTS, help=f"files or folders; {' '.join(TESTS)} by default")
    parser.add_argument(
        "--versions", nargs="+", metavar="VERSION", help="5.24 is its latest patch version; 5.24.0 is exact"
    )
    parser.add_argument("--folder", type=Path, help="where to create and keep the environments")
    args = parser.parse_args(arguments)
    requirements = (ROOT / "requirements.txt").read_text("utf-8")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        outcomes = [
            run(version, folder.resolve() / version, requirements, args.tests)
            for version in args.versions or allowed_versions(requirements)
        ]
    print(table(outcomes))
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


def allowed_versions(requirements: str) -> list[str]:
    """The minor versions of transformers, such as `5.23`, that these requirements allow."""
    match = re.search(r"^transformers>=(\d+)\.(\d+),<(\d+)\.(\d+)$", requirements, re.MULTILINE)
    if not match:
        raise ValueError("requirements.txt has no line like transformers>=5.23,<5.25")
    major, first, next_major, end = map(int, match.groups())
    if major != next_major or first >= end:
        raise ValueError("requirements.txt allows transformers of more than one major version, or none")
    return [f"{major}.{minor}" for minor in range(first, end)]


def run(version: str, folder: Path, requirements: str, tests: Sequence[str]) -> Outcome:
    """Install that version into an environment in `folder`, and run the tests in it."""
    print(f"== transformers {version}", flush=True)
    python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    try:
        if not Path(python).exists():
            venv.create(folder, with_pip=True)
        install(python, version, requirements)
        code = "import transformers; print(transformers.__version__)"
        installed = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.split()[-1]
    except subprocess.CalledProcessError as error:
        print(f"no environment: {error}", flush=True)
        return Outcome(version)
    report, started = folder / "report.xml", time.monotonic()
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    returncode = subprocess.run(command, cwd=ROOT).returncode
    seconds = time.monotonic() - started
    passed, failed = count_results(report.read_text("utf-8")) if report.exists() else (0, 0)
    return Outcome(installed, passed, failed or int(returncode != 0), seconds)


def install(python: str, version: str, requirements: str) -> None:
    """Install the requirements with that version of transformers instead of the range, and the tests' requirements."""
    others = [line for line in requirements.splitlines() if line and not line.startswith("transformers")]
    transformers = f"transformers=={version}" + (".*" if version.count(".") == 1 else "")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *others, *FOR_TESTS, transformers], check=True, cwd=ROOT)


def count_results(report: str) -> tuple[int, int]:
    """The numbers of passed and failed tests (errors are failures) in pytest's report in JUnit's format."""
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in ElementTree.fromstring(report).iter("testsuite"):
        for key in totals:
            totals[key] += int(suite.get(key, 0))
    failed = totals["failures"] + totals["errors"]
    return totals["tests"] - failed - totals["skipped"], failed


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as Markdown."""
    lines = [
        f"| {outcome.version} | {outcome.passed} | {outcome.failed} | {outcome.seconds:.0f} |" for outcome in outcomes
    ]
    return "\n".join(["| transformers | passed | failed | seconds |", "|---|--:|--:|--:|", *lines])


if __name__ == "__main__":
    sys.exit(main())
