"""`python -m benchmarks.loading --model mt0-xl-random --precision int8`: load a full-size checkpoint of random weights.

Saves the checkpoint once (bf16, in shards; 7 to 16 GB in --folder), loads it through the public API in each precision,
in a new process each, and measures the load time, the peak memory, the weights by part and in comparison with the
catalogue's estimate, and the time of one answer. Prints a table; with --json it saves the results.

`python -m benchmarks.loading --photo-encoder`: what the second image encoder of the embedded model costs. Starts
a server with it and one without it, one after the other, whose order changes in each of --rounds; asks both about the
same new images in turn; and prints the medians of the time until ready and of a first answer, and of the differences.
"""

from __future__ import annotations

import argparse
import base64
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import torch

from benchmarks import random_weights, report
from benchmarks.clients import draw_image
from benchmarks.load.server import ServerProcess
from blip_space import catalogue
from blip_space.engine.local import LocalEngine
from blip_space.engine.request import Request
from blip_space.errors import UserError
from blip_space.images import SafeImage
from blip_space.loading.loader import load_model
from blip_space.loading.selftest import make_test_images
from blip_space.options import GenerationOptions

NEW_TOKENS = 8
IMAGES, WARM_UP = 20, 4
"""How many new images each server is asked about, and how many of them are not counted."""

PARTS = ("vision_model", "qformer", "language_projection", "language_model")


def main() -> None:
    """Save the checkpoint, measure each precision, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loading", description=__doc__)
    parser.add_argument("--model", choices=list(random_weights.LANGUAGE_MODELS), default="mt0-xl-random")
    parser.add_argument(
        "--precision", default="bf16,int8,int4", help="one or several, separated by commas (default %(default)s)"
    )
    parser.add_argument("--folder", type=Path, help="where to keep checkpoints; by default they are deleted")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--photo-encoder", action="store_true", help="measure the embedded model's second encoder")
    parser.add_argument("--rounds", type=int, default=5, help="with --photo-encoder (default %(default)s)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.precision)))
        return
    if args.photo_encoder:
        print(photo_encoder_table(args.rounds))
        return
    with tempfile.TemporaryDirectory() as temporary:
        checkpoint = (args.folder or Path(temporary)) / args.model
        if not (checkpoint / "blip_space.json").exists():
            print(f"{args.model}: saving it to {checkpoint}", flush=True)
            code = (
                "from benchmarks import random_weights; from pathlib import Path; import sys; "
                "random_weights.save(sys.argv[1], Path(sys.argv[2]))"
            )
            subprocess.run([sys.executable, "-c", code, args.model, str(checkpoint)], check=True)
        rows = []
        for precision in args.precision.split(","):
            rows.append({"model": args.model, "precision": precision} | _measure_in_process(checkpoint, precision))
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    if args.json:
        args.json.write_text(json.dumps({"machine": report.machine(), "rows": rows}, indent=2) + "\n", "utf-8")


def measure(folder: Path, precision: str) -> dict[str, Any]:
    """Load the checkpoint in this process, and answer once."""
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
    image = SafeImage(make_test_images()[0], digest="test image")
    first = 0.0
    for _ in LocalEngine(model).generate(Request(image, "a photo of", options=options)):
        first = first or time.monotonic() - started
    return {
        "load_seconds": round(seconds, 1),
        "peak_gb": round(peak / 1e9, 2),
        "weights_gb": round(model.nbytes / 1e9, 2),
        "estimated_gb": model.spec.memory_gb[precision],
        "parts_gb": {name: round(size, 2) for name, size in parts.items()},
        "first_token_seconds": round(first, 2),
        "token_seconds": round((time.monotonic() - started - first) / (NEW_TOKENS - 1), 2),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    head = (
        "| model | precision | load | peak | weights | estimated | language model | first token | per further token |\n"
        "|---|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    lines = [
        f"| {row['model']} | {row['precision']} | {row['load_seconds']:.0f} s | {row['peak_gb']:.1f} GB "
        f"| {row['weights_gb']:.2f} GB | {row['estimated_gb']:.2f} GB | {row['parts_gb']['language_model']:.2f} GB "
        f"| {row['first_token_seconds']:.1f} s | {row['token_seconds']:.2f} s |"
        for row in rows
        if "error" not in row
    ]
    return "\n".join([report.machine(), "", head, *lines])


def photo_encoder_table(rounds: int) -> str:
    """Measure the embedded model with and without its second image encoder; the medians as Markdown."""
    ready, answered = list[tuple[float, float]](), list[tuple[float, float]]()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        plain = shutil.copytree(catalogue.TINY_FOLDER, root / "plain")
        own = json.loads((plain / "blip_space.json").read_text("utf-8"))
        (plain / "blip_space.json").write_text(json.dumps(own | {"photo_encoder": False}), "utf-8")
        for number in range(rounds):
            servers: dict[Path, tuple[float, ServerProcess]] = {}
            for folder in (catalogue.TINY_FOLDER, plain)[:: 1 if number % 2 else -1]:
                started = time.monotonic()
                server = ServerProcess(Path(tempfile.mkdtemp(dir=root)), ["--model", str(folder)])
                servers[folder] = time.monotonic() - started, server
            both = servers[catalogue.TINY_FOLDER], servers[plain]
            ready.append((both[0][0], both[1][0]))
            for image in [draw_image(root, index).read_bytes() for index in range(IMAGES)]:
                answered.append((_answer_seconds(both[0][1], image), _answer_seconds(both[1][1], image)))
            answered[-IMAGES:] = answered[-IMAGES + WARM_UP :]
            for _, server in both:
                server.stop()
    head = "| | with | without | difference |\n|---|--:|--:|--:|"
    rows = [_paired_row("ready", ready, 1, "s"), _paired_row("first answer", answered, 1000, "ms")]
    return "\n".join([report.machine(), "", head, *rows])


def _answer_seconds(server: ServerProcess, image: bytes) -> float:
    url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    started = time.monotonic()
    reply = httpx.post(
        f"{server.url}/v1/chat/completions", json={"messages": [{"role": "user", "content": parts}]}, timeout=60
    )
    seconds = time.monotonic() - started
    reply.raise_for_status()
    return seconds


def _paired_row(title: str, pairs: list[tuple[float, float]], scale: int, unit: str) -> str:
    columns = [*zip(*pairs, strict=True), [own - other for own, other in pairs]]
    medians = [f"{scale * statistics.median(column):.{0 if scale > 1 else 2}f} {unit}" for column in columns]
    return f"| {title} | {' | '.join(medians)} |"


def _measure_in_process(checkpoint: Path, precision: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.loading", "--measure", str(checkpoint), "--precision", precision]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        return {"error": run.stderr.strip().splitlines()[-1] if run.stderr.strip() else f"exit {run.returncode}"}
    result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return result


def _bytes(module: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


if __name__ == "__main__":
    main()
