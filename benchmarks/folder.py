"""`python -m benchmarks.folder --model tiny --images 5000`: a folder job with the baseline and with blip-space.

Both get the same weights, files and prompt in one run. The baseline (open, processor, `generate`, for one image after
another) is timed on the first --baseline-images images. Prints a table; with --json it saves the results.

With --rerun it measures instead the folder command itself on ten thousand images, and once more when all are done: the
second run reads digests only and loads no model, as its memory shows. With --distinct only so many images are drawn and
copied under other names, which makes a hundred thousand files fast.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks import random_weights, report
from benchmarks.baseline import compose_prompt, load, optimize, process
from benchmarks.crash_recovery import count_lines, draw_folder, start_job
from blip_space import images
from blip_space.jobs.folder_job import FolderJob, FolderRun
from blip_space.jobs.output_log import OutputLog
from blip_space.jobs.records import CaptionTask
from blip_space.models.interface import VisionLanguageModel
from blip_space.options import GenerationOptions

INTERVAL_SECONDS = 0.01


def main() -> None:
    """Draw the folder, run both, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folder", description=__doc__)
    parser.add_argument("--model", default="tiny", help=f"{', '.join(random_weights.NAMES)}, tiny, or a folder")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="auto", help="auto, cpu, or a GPU such as cuda:0")
    parser.add_argument("--images", type=int, help="default 5000, and 10000 with --rerun")
    parser.add_argument("--baseline-images", type=int, default=200)
    parser.add_argument("--new-tokens", type=int, default=20)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rerun", action="store_true", help="measure the folder command, and its run when all is done")
    parser.add_argument("--distinct", type=int, help="with --rerun: the number of different images")
    args = parser.parse_args()
    if args.rerun:
        measure_rerun(args.images or 10_000, args.distinct)
        return
    number = args.images or 5_000
    hf_model, tokenizer, model = load(args.model, args.precision, args.device)
    options = GenerationOptions(max_new_tokens=args.new_tokens)
    with tempfile.TemporaryDirectory() as temporary:
        folder = draw_folder(Path(temporary) / "images", number)
        files = sorted(path.name for path in folder.iterdir())
        baseline = run_baseline(hf_model, tokenizer, model, folder, files[: args.baseline_images], options)
        optimize(hf_model, model)
        own = run_job(model, folder, files, options, Path(temporary) / "captions.jsonl", batch_size=args.batch_size)
    row = {
        "machine": report.machine(model.precision.device),
        "model": args.model,
        "dtype": model.precision.name,
        "images": number,
        "baseline_images_per_second": round(baseline, 2),
        "blip_space_images_per_second": round(own, 2),
        "ratio": round(own / baseline, 2),
    }
    print(f"`{args.model}` in {row['dtype']}, {row['machine']}\n")
    print("| images | baseline images/s | blip-space images/s | ratio |\n|--:|--:|--:|--:|")
    print(f"| {number:,} | {baseline:.2f} | {own:.2f} | {own / baseline:.1f}× |")
    if args.json:
        args.json.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")


def run_baseline(
    hf_model: Any,
    tokenizer: Any,
    model: VisionLanguageModel,
    folder: Path,
    files: list[str],
    options: GenerationOptions,
) -> float:
    """Images per second of the baseline."""
    prompt, beams = compose_prompt(model, "", (), options), options.num_beams if options.quality == "best" else 1
    started = time.monotonic()
    for file in files:
        inputs = process(hf_model, model, images.decode(folder / file), prompt)
        with torch.inference_mode():
            ids = hf_model.generate(**inputs, do_sample=False, num_beams=beams, max_new_tokens=options.max_new_tokens)
        tokenizer.decode(ids[0].tolist(), skip_special_tokens=True)
    return len(files) / (time.monotonic() - started)


def run_job(
    model: VisionLanguageModel,
    folder: Path,
    files: list[str],
    options: GenerationOptions,
    output: Path,
    *,
    batch_size: int | None = None,
) -> float:
    """Images per second of a folder job, without the time to load the model."""
    task = CaptionTask(model.spec.name, model.precision.name, "en", "", options)
    with OutputLog(output) as log:
        started = time.monotonic()
        FolderRun(
            FolderJob(folder, files, [task], load=lambda: model, batch_size=batch_size),
            log,
            on_progress=lambda _: None,
        ).run()
        return len(files) / (time.monotonic() - started)


def measure_rerun(number: int, distinct: int | None) -> None:
    """Run the folder command twice, and print the time and the peak memory of both runs."""
    with tempfile.TemporaryDirectory() as temporary:
        distinct = min(distinct or number, number)
        folder, output = draw_folder(Path(temporary) / "images", distinct), Path(temporary) / "captions.jsonl"
        files = sorted(folder.iterdir())
        for index in range(distinct, number):
            shutil.copyfile(files[index % distinct], folder / f"{index:06}.png")
        print(f"{number:,} files, {distinct:,} images, {report.machine()}\n", flush=True)
        print("| run | lines | seconds | peak memory |\n|---|--:|--:|--:|", flush=True)
        for name in ("first", "again"):
            seconds, megabytes = measure_command(folder, output)
            print(f"| {name} | {count_lines(output):,} | {seconds:.0f} | {megabytes:.0f} MB |", flush=True)


def measure_command(folder: Path, output: Path) -> tuple[float, float]:
    """The seconds of the folder command, and the peak memory of its process in megabytes."""
    import psutil  # a machine with a GPU may lack it

    started, peak = time.monotonic(), 0
    running = start_job(folder, output)
    measured = psutil.Process(running.pid)
    while running.poll() is None:
        with suppress(psutil.Error):  # it has just ended
            peak = max(peak, measured.memory_info().rss)
        time.sleep(INTERVAL_SECONDS)
    return time.monotonic() - started, peak / 1e6


if __name__ == "__main__":
    main()
