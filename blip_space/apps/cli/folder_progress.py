"""The progress of a folder job on the terminal, and its summary.

Depends on the job's progress; must not import anything that loads models.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from blip_space.apps.cli.terminal import print_json, print_message, update_line
from blip_space.jobs.folder_listing import Listing
from blip_space.jobs.job_progress import JobProgress
from blip_space.jobs.outputs.text_files import Outcome

UPDATE_SECONDS = {True: 0.2, False: 10.0}
"""The seconds between two updates; the key is whether stderr is a terminal."""

MAX_NAMED = 20
STOPPED = 130
"""The exit code after Ctrl-C."""

RESUME = {
    "skip": "the same command resumes",
    "overwrite": "the same command with --existing skip resumes",
    "append": "the same command starts over with the first image",
}
"""How to resume a stopped job, by the value of `--existing`."""


class ProgressPrinter:
    """Prints progress: on a terminal as one updated line, elsewhere as a new line every ten seconds."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._terminal = sys.stderr.isatty() and not as_json
        self._last = time.monotonic()

    def __call__(self, progress: JobProgress) -> None:
        now = time.monotonic()
        if now - self._last < UPDATE_SECONDS[self._terminal]:
            return
        self._last = now
        if self._json:
            print_json(event="progress", **_figures(progress))
        elif self._terminal:
            update_line(str(progress))
        else:
            print_message(str(progress))

    def close(self) -> None:
        """Clear the line on a terminal."""
        if self._terminal:
            update_line("")


def summarize(progress: JobProgress, listing: Listing, outcome: Outcome, args: argparse.Namespace) -> int:
    """Print the results, the ignored files and how to resume; return the exit code."""
    if args.json:
        ignored = dict(sorted(listing.ignored.items()))
        print_json(event="stopped" if progress.cancelled else "end", **_figures(progress), passed_by=ignored)
    else:
        print_message(
            f"{progress.generated:,} captions generated, {progress.copied:,} copied from duplicate images, "
            f"{progress.skipped:,} already done, {len(progress.errors)} errors"
        )
        print_message(str(listing))
    errors = [*listing.unreadable, *progress.errors, *outcome.failed]
    for file, error in errors[:MAX_NAMED]:
        print_message(f"{file}: {error}")
    if len(errors) > MAX_NAMED:
        print_message(f"and {len(errors) - MAX_NAMED:,} more, in the output")
    if progress.errors and not args.retry_errors:
        print_message("--retry-errors tries them again")
    if outcome.kept:
        more = f" and {len(outcome.kept) - 1:,} more" if len(outcome.kept) > 1 else ""
        print_message(
            f"not overwritten, because you wrote or edited it: {outcome.kept[0]}{more} (see --overwrite-edited)"
        )
    for note in outcome.notes:
        print_message(note)
    if progress.cancelled:
        print_message(f"stopped; {RESUME[args.existing]}")
        return STOPPED
    return 1 if errors else 0


def _figures(progress: JobProgress) -> dict[str, Any]:
    left = progress.seconds_left
    return {
        "done": progress.done,
        "total": progress.total,
        "written": progress.generated,
        "copied": progress.copied,
        "skipped": progress.skipped,
        "errors": len(progress.errors),
        "captions_per_second": round(progress.items_per_second, 2),
        "seconds_left": None if left is None else round(left, 1),
    }
