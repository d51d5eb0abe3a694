"""`python -m benchmarks.loading --shape mt0-xl --precision int8`: a full-size checkpoint through the front door.

Writes the shape with random weights once (bf16, in shards; 7 to 16 GB under --folder), loads it in a process of its own
in each precision, and tells how long that takes, what it holds at its most and afterwards by part, whether that is what
the catalogue foretells, and how fast one answer is. Prints a table; with --json it writes the figures.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import random_weights, report
from blip_space import catalogue
from blip_space.engine.local import LocalEngine
from blip_space.engine.request import Request
from blip_space.errors import UserError
from blip_space.images import SafeImage
from blip_space.loading.loader import load_model
from blip_space.loading.selftest import make_test_images
from blip_space.options import GenerationOptions

NEW_TOKENS = 8
PARTS = ("vision_model", "qformer", "language_projection", "language_model")


def main() -> None:
    """Write what is missing, measure each precision, and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__)
    names = [name.removesuffix("-shape") for name in random_weights.TEXTS]
    parser.add_argument("--shape", choices=names, default="mt0-xl")
    parser.add_argument("--precision", default="bf16,int8,int4", help="one or several, by comma (default %(default)s)")
    parser.add_argument("--folder", type=Path, help="where checkpoints are kept; without it they are deleted")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.precision)))
        return
    with tempfile.TemporaryDirectory() as fleeting:
        checkpoint = (given.folder or Path(fleeting)) / given.shape
        if not (checkpoint / "blip_space.json").exists():
            print(f"{given.shape}: writing it to {checkpoint}", flush=True)
            _apart(
                "from benchmarks import shapes; from pathlib import Path; import sys; "
                "shapes.write(sys.argv[1], Path(sys.argv[2]))",
                f"{given.shape}-shape",
                str(checkpoint),
            )
        rows = []
        for precision in given.precision.split(","):
            rows.append({"shape": given.shape, "precision": precision} | _measured_apart(checkpoint, precision))
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    if given.json:
        given.json.write_text(json.dumps({"machine": report.machine(), "rows": rows}, indent=2) + "\n", "utf-8")


def measure(folder: Path, precision: str) -> dict[str, Any]:
    """Load the folder in this process, and answer once."""
    started = time.monotonic()
    try:
        model = load_model(catalogue.read_folder(folder), precision)
    except UserError as error:
        return {"error": str(error)}
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    parts = {part: _bytes(getattr(model._hf_model, part)) / 1e9 for part in PARTS}
    started = time.monotonic()
    options = GenerationOptions(max_new_tokens=NEW_TOKENS)
    model.stop_token_ids = frozenset()
    shown = SafeImage(make_test_images()[0], digest="made")
    first = 0.0
    for _ in LocalEngine(model).generate(Request(shown, "a photo of", options=options)):
        first = first or time.monotonic() - started
    return {
        "load_seconds": round(seconds, 1),
        "peak_gb": round(peak / 1e9, 2),
        "weights_gb": round(model.nbytes / 1e9, 2),
        "foretold_gb": model.spec.memory_gb[precision],
        "parts_gb": {name: round(size, 2) for name, size in parts.items()},
        "first_token_seconds": round(first, 2),
        "token_seconds": round((time.monotonic() - started - first) / (NEW_TOKENS - 1), 2),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The README's table."""
    head = (
        "| shape | precision | load | peak | weights | foretold | language model | first token | each more |\n"
        "|---|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    lines = [
        f"| {row['shape']} | {row['precision']} | {row['load_seconds']:.0f} s | {row['peak_gb']:.1f} GB "
        f"| {row['weights_gb']:.2f} GB | {row['foretold_gb']:.2f} GB | {row['parts_gb']['language_model']:.2f} GB "
        f"| {row['first_token_seconds']:.1f} s | {row['token_seconds']:.2f} s |"
        for row in rows
        if "error" not in row
    ]
    return "\n".join([report.machine(), "", head, *lines])


def _measured_apart(checkpoint: Path, precision: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.loading", "--measure", str(checkpoint), "--precision", precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _apart(code: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)


def _bytes(module: torch.nn.Module) -> int:
    return sum(one.nbytes for one in (*module.parameters(), *module.buffers()))


if __name__ == "__main__":
    main()
