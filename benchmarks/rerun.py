"""`python -m benchmarks.rerun`: the folder command on ten thousand pictures, and once more when all is done.

The second run reads digests only and loads no model, which its memory shows. With `--distinct` so many pictures lie in
the folder again and again under other names, which makes a hundred thousand files quick.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks import report
from benchmarks.crash_recovery import count, draw_folder, start

WATCH_SECONDS = 0.01


def main() -> None:
    """Draw, run, run again, and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rerun", description=__doc__)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--distinct", type=int)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        distinct = min(given.distinct or given.pictures, given.pictures)
        folder, output = draw_folder(Path(place) / "pictures", distinct), Path(place) / "captions.jsonl"
        drawn = sorted(folder.iterdir())
        for number in range(distinct, given.pictures):
            shutil.copyfile(drawn[number % distinct], folder / f"{number:06}.png")
        print(f"{given.pictures:,} files, {distinct:,} pictures, {report.machine()}\n", flush=True)
        print("| run | lines | seconds | memory at most |\n|---|--:|--:|--:|", flush=True)
        for name in ("first", "again"):
            seconds, megabytes = run(folder, output)
            print(f"| {name} | {count(output):,} | {seconds:.0f} | {megabytes:.0f} MB |", flush=True)


def run(folder: Path, output: Path) -> tuple[float, float]:
    """Seconds of the command, and the megabytes that its process was seen to hold at most."""
    started, most = time.monotonic(), 0
    process = start(folder, output)
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        with suppress(psutil.Error):  # it ends just now
            most = max(most, watched.memory_info().rss)
        time.sleep(WATCH_SECONDS)
    return time.monotonic() - started, most / 1e6


if __name__ == "__main__":
    main()
