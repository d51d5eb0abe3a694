"""What a folder job says on the terminal, while it runs and at its end.

Depends on how far a job is; must not import anything that loads models.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from blip_space.apps.cli.listing import print_json
from blip_space.jobs.folder_job import JobProgress
from blip_space.jobs.folder_listing import Listing
from blip_space.jobs.outputs.output_files import Outcome

SHOWN_EVERY_SECONDS = {True: 0.2, False: 10.0}
"""On a terminal, and elsewhere."""

MAX_NAMED = 20
STOPPED = 130
"""The exit code after Ctrl-C."""

GO_ON = {
    "skip": "the same command goes on where this one ended",
    "overwrite": "the same command with --existing skip goes on where this one ended",
    "append": "the same command begins again with the first image",
}


class ProgressPrinter:
    """Shows how far the job is: a line that changes on a terminal, elsewhere one now and then."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._terminal = sys.stderr.isatty() and not as_json
        self._last = time.monotonic()

    def __call__(self, tally: JobProgress) -> None:
        now = time.monotonic()
        if now - self._last < SHOWN_EVERY_SECONDS[self._terminal]:
            return
        self._last = now
        if self._json:
            print_json(event="progress", **_figures(tally))
        elif self._terminal:
            print(f"\r\x1b[K{tally}", end="", file=sys.stderr, flush=True)
        else:
            print_message(str(tally))

    def close(self) -> None:
        """Leave no half line on a terminal."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def summarize(tally: JobProgress, listing: Listing, outcome: Outcome, given: argparse.Namespace) -> int:
    """Say what was done, what was passed by, and the way on; the exit code."""
    if given.json:
        passed_by = dict(sorted(listing.ignored.items()))
        print_json(event="stopped" if tally.cancelled else "end", **_figures(tally), passed_by=passed_by)
    else:
        print_message(
            f"{tally.generated:,} captions written, {tally.copied:,} copied from equal pictures, "
            f"{tally.skipped:,} were there, {len(tally.errors)} errors"
        )
        print_message(str(listing))
    errors = [*listing.unreadable, *tally.errors, *outcome.failed]
    for file, error in errors[:MAX_NAMED]:
        print_message(f"{file}: {error}")
    if len(errors) > MAX_NAMED:
        print_message(f"and {len(errors) - MAX_NAMED:,} more, in the output")
    if tally.errors and not given.retry_errors:
        print_message("--retry-errors tries them again")
    for note in [*_kept(outcome), *outcome.notes]:
        print_message(note)
    if tally.cancelled:
        print_message(f"stopped; {GO_ON[given.existing]}")
        return STOPPED
    return 1 if errors else 0


def print_message(sentence: str) -> None:
    """A line of ours on stderr."""
    print(f"blip-space: {sentence}", file=sys.stderr, flush=True)


def _kept(outcome: Outcome) -> list[str]:
    if not outcome.kept:
        return []
    more = f" and {len(outcome.kept) - 1:,} more" if len(outcome.kept) > 1 else ""
    return [f"left as a person made it: {outcome.kept[0]}{more} (--overwrite-edited writes over it)"]


def _figures(tally: JobProgress) -> dict[str, Any]:
    left = tally.seconds_left
    return {
        "done": tally.done,
        "total": tally.total,
        "written": tally.generated,
        "copied": tally.copied,
        "skipped": tally.skipped,
        "errors": len(tally.errors),
        "captions_per_second": round(tally.items_per_second, 2),
        "seconds_left": None if left is None else round(left, 1),
    }
