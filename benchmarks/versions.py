"""`python -m benchmarks.versions`: run the tests with other versions of the dependencies than those installed.

For every minor version of transformers in the range of requirements.txt it creates a virtual environment, installs the
requirements, runs the tests and prints a table. `--versions` selects others, for example a release candidate.
`--newest` and `--lowest` instead take, of all requirements, the newest versions that the registry has, above the ranges
too, and the lowest in the ranges. The exit code is 1 if a test fails or an environment cannot be created. With
`--folder` the environments are kept for the next run.
"""

from __future__ import annotations

import argparse
import json
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
APP_TESTS = ("tests/images", "tests/apps/test_endpoints.py", "tests/apps/test_server.py")
"""What `--newest` and `--lowest` run as well, since they change Gradio and Pillow too."""

_LOWER = re.compile(r">=([\d.]+)[^;]*")
FOR_TESTS = ("peft>=0.17,<1", "playwright>=1.50", "psutil>=7", "pytest>=8.3", "pytest-timeout>=2.3")


@dataclass(frozen=True)
class Outcome:
    """The test results of one environment; `version` is its version of transformers. `failures` are names of tests,
    `warnings` the different warnings, `outside` the installed versions that requirements.txt does not allow."""

    version: str
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether tests ran and none failed."""
        return self.passed > 0 and not self.failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests in each environment; returns 0 if all pass."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions", description=__doc__)
    parser.add_argument("tests", nargs="*", help=f"files or folders; {' '.join(TESTS)} by default")
    parser.add_argument(
        "--versions", nargs="+", metavar="VERSION", help="5.24 is its latest patch version; 5.24.0 is exact"
    )
    parser.add_argument("--newest", action="store_true", help="the newest version of every requirement")
    parser.add_argument("--lowest", action="store_true", help="the lowest allowed version of every requirement")
    parser.add_argument("--hold", nargs="+", default=[], metavar="NAME", help="requirements that stay as they are")
    parser.add_argument("--folder", type=Path, help="where to create and keep the environments")
    args = parser.parse_args(arguments)
    lines = [line for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines() if line]
    environments = {}
    if args.newest:
        environments["newest"] = newest(lines, args.hold)
    if args.lowest:
        environments["lowest"] = lowest(lines, args.hold)
    if args.versions or not environments:
        versions = args.versions or allowed_versions("\n".join(lines))
        environments |= {version: with_transformers(version, lines) for version in versions}
    tests = args.tests or [*TESTS, *(APP_TESTS if args.newest or args.lowest else ())]
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        outcomes = [run(name, folder / name, wanted, tests) for name, wanted in environments.items()]
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


def with_transformers(version: str, requirements: Sequence[str]) -> list[str]:
    """The requirements with that version of transformers instead of the range."""
    others = [line for line in requirements if not line.startswith("transformers")]
    return [*others, f"transformers=={version}" + (".*" if version.count(".") == 1 else "")]


def newest(requirements: Sequence[str], hold: Sequence[str] = ()) -> list[str]:
    """The requirements without their versions, except those of the packages in `hold`."""
    return [line if _name(line) in hold else re.sub(r"[<>=][^;]*", "", line, count=1) for line in requirements]


def lowest(requirements: Sequence[str], hold: Sequence[str] = ()) -> list[str]:
    """The requirements with their lowest versions, of whose patch versions pip takes the latest."""
    return [line if _name(line) in hold else _LOWER.sub(_patches_of, line, count=1) for line in requirements]


def _patches_of(match: re.Match[str]) -> str:
    return f"~={match[1]}" + (".0" if "." in match[1] else ".0.0")


def _name(requirement: str) -> str:
    return re.split(r"[<>=~;]", requirement)[0]


def run(name: str, folder: Path, requirements: Sequence[str], tests: Sequence[str]) -> Outcome:
    """Install the requirements into an environment in `folder`, and run the tests in it."""
    print(f"== {name}", flush=True)
    python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    try:
        if not Path(python).exists():
            venv.create(folder, with_pip=True)
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "--upgrade", *requirements, *FOR_TESTS], check=True, cwd=ROOT)
        installed = installed_versions(python)
    except subprocess.CalledProcessError as error:
        print(f"no environment: {error}", flush=True)
        return Outcome(name)
    report, recorded, started = folder / "report.xml", folder / "warnings.txt", time.monotonic()
    for file in (report, recorded):
        file.unlink(missing_ok=True)
    options = ["-q", "-p", "no:cacheprovider", "-p", "benchmarks.recorded_warnings"]
    files = [f"--junitxml={report}", f"--warnings-file={recorded}"]
    returncode = subprocess.run([python, "-m", "pytest", *options, *files, *tests], cwd=ROOT).returncode
    passed, failed = count_results(report.read_text("utf-8")) if report.exists() else (0, 0)
    return Outcome(
        f"{installed['transformers']} ({name})" if name in ("newest", "lowest") else installed["transformers"],
        passed,
        failed or int(returncode != 0),
        time.monotonic() - started,
        failed_tests(report.read_text("utf-8")) if report.exists() else (),
        tuple(recorded.read_text("utf-8").splitlines()) if recorded.exists() else (),
        outside(installed, (ROOT / "requirements.txt").read_text("utf-8").splitlines()),
    )


def installed_versions(python: str) -> dict[str, str]:
    """The version of each package of that environment, by its name in lower case with `_` for `-`."""
    command = [python, "-m", "pip", "--disable-pip-version-check", "list", "--format=json"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {package["name"].lower().replace("-", "_"): package["version"] for package in json.loads(listed)}


def outside(installed: dict[str, str], requirements: Sequence[str]) -> tuple[str, ...]:
    """The installed versions that the requirements do not allow."""
    from packaging.requirements import Requirement

    parsed = [Requirement(line) for line in requirements if line]
    return tuple(
        f"{item.name} {version}"
        for item in parsed
        if (version := installed.get(item.name.replace("-", "_"))) and not item.specifier.contains(version)
    )


def count_results(report: str) -> tuple[int, int]:
    """The numbers of passed and failed tests (errors are failures) in pytest's report in JUnit's format."""
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for suite in ElementTree.fromstring(report).iter("testsuite"):
        for key in totals:
            totals[key] += int(suite.get(key, 0))
    failed = totals["failures"] + totals["errors"]
    return totals["tests"] - failed - totals["skipped"], failed


def failed_tests(report: str) -> tuple[str, ...]:
    """The names of the tests that failed, in that report."""
    cases = ElementTree.fromstring(report).iter("testcase")
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return tuple(f"{case.get('classname')}.{case.get('name')}" for case in failed)


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as Markdown, and below them what failed, what warned and what is newer than allowed."""
    lines = ["| transformers | passed | failed | warned | seconds |", "|---|--:|--:|--:|--:|"]
    for item in outcomes:
        counts = f"{item.passed} | {item.failed} | {len(item.warnings)} | {item.seconds:.0f}"
        lines.append(f"| {item.version} | {counts} |")
    for item in outcomes:
        details = {"failed": item.failures, "warned": item.warnings, "not allowed by the requirements": item.outside}
        for what, entries in details.items():
            lines += [f"\n{item.version}, {what}:", *(f"- {entry}" for entry in entries)] if entries else []
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
