"""`python -m benchmarks.without llava`: check that nothing but a family's own files depends on the family.

Copies the checkout, deletes every file that is named after the family, and runs the tests of everything else. Exits
with pytest's exit code. `python -m benchmarks.without llava tests/catalogue/test_catalogue.py` runs only these tests.
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
"""The default; the other tests do not use a model."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Copy, delete, run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.without", description=__doc__)
    parser.add_argument("family")
    parser.add_argument("tests", nargs="*", default=TESTS)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        deleted = copy_without(args.family, Path(folder))
        print(f"without {', '.join(deleted)}", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args.tests]
        return subprocess.run(command, cwd=folder, check=False).returncode


def copy_without(family: str, folder: Path) -> list[str]:
    """Copy the checkout without the family's files; returns their paths."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    deleted = sorted(folder.rglob(f"*{family}*.py"))
    for file in deleted:
        file.unlink()
    return [str(file.relative_to(folder)) for file in deleted]


if __name__ == "__main__":
    raise SystemExit(main())
