"""`python -m benchmarks.gpu --minutes 8`: everything that a machine with a GPU has to show.

In this order: equality with transformers, decode steps against the bound (the bytes that a step reads, by the measured
read bandwidth), users at the engine against the baseline's loop, the same users through `/chat` where gradio is
installed, a folder, precisions, and the rest. Attention by cuDNN is off for the engine and the loop alike, since it
plans for every length. Every row is printed as soon as it is measured, and saved with --json, so a run that is cut off
keeps what it has; nothing begins once the minutes are over.

With --dry-run it does all of it on the CPU, with tiny models, in a minute or two; the figures mean nothing. The exit
code is 1 if a section failed or an answer is not that of transformers, 70 if the GPU stopped working.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import devices, report
from benchmarks.gpu import chat, equality, steps, users
from benchmarks.gpu.setup import SMALL, Clock, Row, Section, Setup, Sizes

DEVICE_LOST = 70

_NAMED = {section.name: section for section in (*equality.SECTIONS, *steps.SECTIONS, *users.SECTIONS, *chat.SECTIONS)}
ORDER = (
    *("equality", "bandwidth", "steps", "users", "chat", "folder", "precisions"),
    *("first-tokens", "sampling", "pictures", "more-users", "more-steps", "other-steps"),
)
SECTIONS = tuple(_NAMED[name] for name in ORDER)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and save; the exit code."""
    args = _arguments(argv)
    device = "cpu" if args.dry_run else devices.resolve(args.device)
    if not args.dry_run and device == "cpu":
        print("There is no GPU here. With --dry-run everything runs on the CPU, with tiny models.", file=sys.stderr)
        return 2
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans for every length; random models do not pass the loader
    sections = [section for section in SECTIONS if not args.only or section.name in args.only]
    setup = Setup(device, is_dry_run=args.dry_run, sizes=SMALL if args.dry_run else Sizes())
    return Report(device, args.json, is_dry_run=args.dry_run).run(sections, setup, Clock(args.minutes))


class Report:
    """Prints tables, and saves them after every row."""

    def __init__(self, device: str, file: Path | None, *, is_dry_run: bool = False) -> None:
        self._file = file
        self._device = device
        self.results: dict[str, Any] = {
            "machine": report.machine(device),
            "date": time.strftime("%Y-%m-%d"),
            "dry_run": is_dry_run,
            "sections": {},
        }
        note = "A dry run on the CPU with tiny models: the figures mean nothing. " if is_dry_run else ""
        print(f"{note}{self.results['machine']}, {self.results['date']}", flush=True)

    def run(self, sections: Iterable[Section], setup: Setup, clock: Clock) -> int:
        """Measure the sections in order; the exit code."""
        failed = False
        for section in sections:
            print(f"\n## {section.title}\n", flush=True)
            result: dict[str, Any] = {"rows": [], "note": ""}
            self.results["sections"][section.name] = result
            started = clock.spent
            try:
                result["note"] = self._measure(section, setup, clock, result["rows"])
            except Exception as error:
                traceback.print_exc()
                failed, result["note"] = True, f"failed: {type(error).__name__}: {error}".split("\n")[0]
                setup.free()
            result["seconds"] = round(clock.spent - started, 1)
            note = f"{result['note']}; " if result["note"] else ""
            print(f"\n({note}{result['seconds']:.0f} s, {clock.spent:.0f} s in all)", flush=True)
            self._save()
            if failed and not devices.works(self._device):
                print(f"\n{self._device} stopped working, so the rest was not measured.", flush=True)
                return DEVICE_LOST
        return int(failed)

    def _measure(self, section: Section, setup: Setup, clock: Clock, rows: list[Row]) -> str:
        """Print and keep the rows of a section; the note if the time is over before the last."""
        measured = section.measure(setup)
        while not clock.is_over:
            row = next(measured, None)
            if row is None:
                return ""
            if not rows:
                print(head(row), flush=True)
            print(line(row), flush=True)
            rows.append(row)
            self._save()
        return "the time was over"

    def _save(self) -> None:
        if self._file:
            self._file.write_text(json.dumps(self.results, indent=2) + "\n", encoding="utf-8")


def head(row: Row) -> str:
    """The head of a table with these columns; numbers are on the right."""
    rules = ["---" if isinstance(value, str) else "--:" for value in row.values()]
    return f"| {' | '.join(row)} |\n|{'|'.join(rules)}|"


def line(row: Row) -> str:
    """A row in Markdown."""
    return f"| {' | '.join(map(_cell, row.values()))} |"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if not isinstance(value, float):
        return str(value).replace("|", "\\|").replace("\n", " ")
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="nothing begins after them (default %(default)s)")
    parser.add_argument("--device", default="auto", help="a GPU such as cuda:0; by default the one with most memory")
    parser.add_argument("--dry-run", action="store_true", help="everything on the CPU, with tiny models")
    parser.add_argument("--only", nargs="+", choices=ORDER, metavar="SECTION", help=f"some of: {', '.join(ORDER)}")
    parser.add_argument("--json", type=Path, help="save everything in this file, too")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
