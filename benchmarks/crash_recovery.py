"""`python -m benchmarks.crash_recovery`: two thousand images, ten kills, and every image has its record once.

The job is killed at ten random moments and started again; at the end its captions are those of a job that nobody
killed. With `--ray` the job goes on: ten of its workers on a cluster of two machines are killed, and then a machine.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from blip_space import settings

SEED = 11


def main() -> int:
    """Draw, run, kill, run again, compare; the exit code is 1 where a line is lost, torn or twice."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash_recovery", description=__doc__)
    parser.add_argument("--pictures", type=int, default=2_000)
    parser.add_argument("--losses", type=int, default=10)
    parser.add_argument("--ray", action="store_true", help="workers of a cluster are killed in place of the job")
    given = parser.parse_args()
    dice = random.Random(SEED)
    with tempfile.TemporaryDirectory() as place:
        folder = draw_folder(Path(place) / "pictures", given.pictures)
        whole, torn = Path(place) / "whole.jsonl", Path(place) / "torn.jsonl"
        started = time.monotonic()
        start(folder, whole).wait()
        print(f"undisturbed: {time.monotonic() - started:.0f} s", flush=True)
        moments = [dice.randint(1, given.pictures // given.losses) for _ in range(given.losses)]
        (lose_workers if given.ray else lose_jobs)(folder, torn, moments)
        one, other = captions(whole), captions(torn)
    equal = one == other and len(one) == given.pictures == len(other)
    print(f"{len(other)} lines of {given.pictures} pictures; {'all as undisturbed' if equal else 'NOT the same'}")
    return int(not equal)


def lose_jobs(folder: Path, output: Path, moments: list[int]) -> None:
    """Kill the job and start it again, each time after so many more lines."""
    for loss, lines in enumerate(moments):
        process = start(folder, output)
        wait_for(count(output) + lines, output, process)
        process.kill()
        process.wait()
        print(f"loss {loss + 1}: {count(output)} whole lines", flush=True)
    start(folder, output).wait()


def lose_workers(folder: Path, output: Path, moments: list[int]) -> None:
    """One job, whose workers are killed after so many more lines each, and in the end one of its machines."""
    settings.prepare_libraries()
    from benchmarks.cluster import local_cluster

    with local_cluster() as machines:
        process = start(folder, output, "--ray", machines.address, "--batch-size", "8")
        for loss, lines in enumerate(moments):
            wait_for(count(output) + lines, output, process)
            for worker in machines.worker_processes("MapWorker")[:1]:
                worker.kill()
                print(f"worker {loss + 1}: {count(output)} whole lines", flush=True)
        machines.kill_node()
        print(f"a machine: {count(output)} whole lines", flush=True)
        process.wait()


def wait_for(lines: int, output: Path, process: subprocess.Popen[Any]) -> None:
    """Until there are so many, or the job has ended."""
    while count(output) < lines and process.poll() is None:
        time.sleep(0.005)


def draw_folder(folder: Path, number: int) -> Path:
    """Circles of one colour as PNG files, no two of them equal."""
    folder.mkdir(parents=True)
    dice = random.Random(SEED)
    for index in range(number):
        picture = Image.new("RGB", (240, 160 + index % 64), "white")
        pen, colour = ImageDraw.Draw(picture), dice.choice(("red", "green", "blue", "orange", "purple"))
        for place in range(dice.randint(1, 4)):
            left, top, size = 6 + 58 * place + dice.randint(0, 6), dice.randint(10, 90), dice.randint(34, 50)
            pen.ellipse((left, top, left + size, top + size), fill=colour)
        picture.save(folder / f"{index:06}.png")
    return folder


def start(folder: Path, output: Path, *more: str) -> subprocess.Popen[Any]:
    """The job as a process."""
    command = [sys.executable, "-m", "blip_space", "folder", str(folder), "--output", str(output), *more]
    return subprocess.Popen([*command, "--quality", "stream"], stderr=subprocess.DEVNULL)


def count(file: Path) -> int:
    """Its whole lines."""
    return file.read_bytes().count(b"\n") if file.exists() else 0


def captions(file: Path) -> list[tuple[str, str]]:
    """File and caption of every line, sorted."""
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return sorted((row["file"], row["caption"]) for row in rows)


if __name__ == "__main__":
    raise SystemExit(main())
