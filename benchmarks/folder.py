"""`python -m benchmarks.folder --model tiny --pictures 5000`: a folder by the model cards' loop and by our job.

Both get the same weights, files and prompt in one run. The cards' loop (open, processor, `generate`, for one picture
after another) is timed on the first --cards pictures. Prints a table; with --json it writes the figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import random_weights, report
from benchmarks.baseline import as_loaded, composed, opened, processed
from benchmarks.crash_recovery import draw_folder
from blip_space import images
from blip_space.jobs.folder_job import FolderJob, FolderRun
from blip_space.jobs.output_log import OutputLog
from blip_space.jobs.records import CaptionTask
from blip_space.models.interface import VisionLanguageModel
from blip_space.options import GenerationOptions


def main() -> None:
    """Draw the folder, run both, and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folder", description=__doc__)
    parser.add_argument("--model", default="tiny", help=f"{', '.join(random_weights.SHAPES)}, tiny, or a folder")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--pictures", type=int, default=5_000)
    parser.add_argument("--cards", type=int, default=200)
    parser.add_argument("--new-tokens", type=int, default=20)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    network, tokenizer, model = opened(given.model, given.precision)
    with tempfile.TemporaryDirectory() as place:
        folder = draw_folder(Path(place) / "pictures", given.pictures)
        files = sorted(path.name for path in folder.iterdir())
        theirs = cards(network, tokenizer, model, folder, files[: given.cards], given.new_tokens)
        as_loaded(network, model)
        ours = job(model, folder, files, given.new_tokens, given.batch_size)
    row = {
        "machine": report.machine(),
        "model": given.model,
        "dtype": model.precision.name,
        "pictures": given.pictures,
        "cards_pictures_per_second": round(theirs, 2),
        "ours_pictures_per_second": round(ours, 2),
        "ratio": round(ours / theirs, 2),
    }
    print(f"`{given.model}` in {row['dtype']}, {row['machine']}\n")
    print("| pictures | cards' pictures/s | ours | ratio |\n|--:|--:|--:|--:|")
    print(f"| {given.pictures:,} | {theirs:.2f} | {ours:.2f} | {ours / theirs:.1f}× |")
    if given.json:
        given.json.write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")


def cards(
    network: Any, tokenizer: Any, model: VisionLanguageModel, folder: Path, files: list[str], new_tokens: int
) -> float:
    """Pictures a second of the loop that the model cards show."""
    prompt = composed(model, "", (), GenerationOptions(max_new_tokens=new_tokens))
    started = time.monotonic()
    for file in files:
        inputs = processed(network, model, images.decode(folder / file), prompt)
        with torch.inference_mode():
            ids = network.generate(**inputs, do_sample=False, max_new_tokens=new_tokens)
        tokenizer.decode(ids[0].tolist(), skip_special_tokens=True)
    return len(files) / (time.monotonic() - started)


def job(model: VisionLanguageModel, folder: Path, files: list[str], new_tokens: int, batch_size: int | None) -> float:
    """Pictures a second of ours, the model loaded before."""
    options = GenerationOptions(max_new_tokens=new_tokens)
    task = CaptionTask(model.spec.name, model.precision.name, "en", "", options)
    with OutputLog(folder.parent / "captions.jsonl") as ledger:
        started = time.monotonic()
        FolderRun(
            FolderJob(folder, files, [task], load=lambda: model, batch_size=batch_size),
            ledger,
            on_progress=lambda _: None,
        ).run()
        return len(files) / (time.monotonic() - started)


if __name__ == "__main__":
    main()
