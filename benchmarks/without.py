"""`python -m benchmarks.without llava`: is a family no more than its own modules, rows and tests?

Copies the checkout, deletes every file that is named after the family, and runs the tests of everything else. Exits
with pytest's code. `python -m benchmarks.without llava tests/catalogue/test_catalogue.py` runs these only.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("app.py", "pyproject.toml", "requirements.txt", "README.md", "assets", "benchmarks", "blip_space", "tests")
TESTS = ("tests/models", "tests/engine", "tests/serving", "tests/jobs", "tests/loading", "tests/catalogue",
         "tests/test_prompts.py", "tests/test_layers.py", "tests/test_end_to_end.py",
         "tests/apps/test_api.py", "tests/apps/test_page.py")  # fmt: skip
"""By default; the rest of the tests knows no model."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Copy, take away, run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.without", description=__doc__)
    parser.add_argument("family")
    parser.add_argument("tests", nargs="*", default=TESTS)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        gone = copy_without(given.family, Path(place))
        print(f"without {', '.join(gone)}", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *given.tests]
        return subprocess.run(command, cwd=place, check=False).returncode


def copy_without(family: str, place: Path) -> list[str]:
    """Copy the checkout to a folder without the family's files, whose paths are returned."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, place / part)
    gone = sorted(place.rglob(f"*{family}*.py"))
    for file in gone:
        file.unlink()
    return [str(file.relative_to(place)) for file in gone]


if __name__ == "__main__":
    raise SystemExit(main())
