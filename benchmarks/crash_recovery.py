"""`python -m benchmarks.crash_recovery`: two thousand images, ten kills, and every image has exactly one record.

The job is killed at ten random times and started again; its captions must be those of a job without kills. With `--ray`
ten workers of the job, and then a node, are killed on a cluster of two nodes, and the job continues.
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
    """Draw, run, kill, run again, compare; the exit code is 1 if a line is missing, incomplete or duplicated."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash_recovery", description=__doc__)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--ray", action="store_true", help="kill workers of a cluster instead of the job")
    args = parser.parse_args()
    rng = random.Random(SEED)
    with tempfile.TemporaryDirectory() as temporary:
        folder = draw_folder(Path(temporary) / "images", args.images)
        undisturbed, killed = Path(temporary) / "undisturbed.jsonl", Path(temporary) / "killed.jsonl"
        started = time.monotonic()
        start_job(folder, undisturbed).wait()
        print(f"without kills: {time.monotonic() - started:.0f} s", flush=True)
        intervals = [rng.randint(1, args.images // args.kills) for _ in range(args.kills)]
        (kill_workers if args.ray else kill_jobs)(folder, killed, intervals)
        expected, captions = read_captions(undisturbed), read_captions(killed)
    equal = expected == captions and len(expected) == args.images == len(captions)
    print(f"{len(captions)} lines of {args.images} images; {'all as without kills' if equal else 'NOT the same'}")
    return int(not equal)


def kill_jobs(folder: Path, output: Path, intervals: list[int]) -> None:
    """Kill the job and start it again, each time after an interval in lines."""
    for number, lines in enumerate(intervals, 1):
        process = start_job(folder, output)
        wait_for(count_lines(output) + lines, output, process)
        process.kill()
        process.wait()
        print(f"kill {number}: {count_lines(output)} complete lines", flush=True)
    start_job(folder, output).wait()


def kill_workers(folder: Path, output: Path, intervals: list[int]) -> None:
    """Kill workers of one job, each after an interval in lines, and finally one of the two nodes."""
    settings.prepare_libraries()
    from benchmarks.cluster import local_cluster

    with local_cluster() as cluster:
        process = start_job(folder, output, "--ray", cluster.address, "--batch-size", "8")
        for number, lines in enumerate(intervals, 1):
            wait_for(count_lines(output) + lines, output, process)
            for worker in cluster.worker_processes("MapWorker")[:1]:
                worker.kill()
                print(f"worker {number}: {count_lines(output)} complete lines", flush=True)
        cluster.kill_node()
        print(f"node: {count_lines(output)} complete lines", flush=True)
        process.wait()


def wait_for(lines: int, output: Path, process: subprocess.Popen[Any]) -> None:
    """Wait until the output has so many lines, or the job has ended."""
    while count_lines(output) < lines and process.poll() is None:
        time.sleep(0.005)


def draw_folder(folder: Path, number: int) -> Path:
    """PNG files with circles of one colour, all different."""
    folder.mkdir(parents=True)
    rng = random.Random(SEED)
    for index in range(number):
        image = Image.new("RGB", (240, 160 + index % 64), "white")
        canvas, colour = ImageDraw.Draw(image), rng.choice(("red", "green", "blue", "orange", "purple"))
        for column in range(rng.randint(1, 4)):
            left, top, size = 6 + 58 * column + rng.randint(0, 6), rng.randint(10, 90), rng.randint(34, 50)
            canvas.ellipse((left, top, left + size, top + size), fill=colour)
        image.save(folder / f"{index:06}.png")
    return folder


def start_job(folder: Path, output: Path, *options: str) -> subprocess.Popen[Any]:
    """Start the folder command."""
    command = [sys.executable, "-m", "blip_space", "folder", str(folder), "--output", str(output), *options]
    return subprocess.Popen([*command, "--quality", "stream"], stderr=subprocess.DEVNULL)


def count_lines(file: Path) -> int:
    """The complete lines of a file."""
    return file.read_bytes().count(b"\n") if file.exists() else 0


def read_captions(file: Path) -> list[tuple[str, str]]:
    """File and caption of every line, sorted."""
    records = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return sorted((record["file"], record["caption"]) for record in records)


if __name__ == "__main__":
    raise SystemExit(main())
