"""`python -m blip_space folder DIR`: captions for a folder of pictures, saved as they come.

Knows arguments, signals and the terminal. Everything that a person can have got wrong is told before the model is
loaded.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from blip_space import catalogue, images, languages, options
from blip_space.apps.listing import print_json
from blip_space.apps.terminal import progress
from blip_space.errors import UserError
from blip_space.inference.folder import export, files
from blip_space.inference.folder.job import Job, Run, Tally
from blip_space.inference.folder.ledger import Ledger
from blip_space.inference.folder.record import Record, Task
from blip_space.inference.request import refuse_foreign

FORMATS = ("jsonl", "json", "csv", "txt")
EXISTING = ("skip", "overwrite", "append")
SHOWN_EVERY_SECONDS = {True: 0.2, False: 10.0}
"""On a terminal, and elsewhere."""

MOST_NAMED = 20
STOPPED = 130
"""The exit code after Ctrl-C."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `folder` takes, apart from the model."""
    parser.add_argument("folder", metavar="DIR", type=Path, help=f"pictures ({images.READABLE})")
    parser.add_argument("--output", metavar="FILE", type=Path, required=True, help="one JSON object a line, appended")
    parser.add_argument("--recursive", action="store_true", help="look into its folders as well")
    parser.add_argument("--glob", metavar="PATTERN", help="take the files that match, such as '*.jpg'")
    parser.add_argument("--language", metavar="CODE,CODE", default="en", help="a caption in each (default en)")
    parser.add_argument("--prompt", default="", help="what is asked of each picture; nothing asks for a caption")
    parser.add_argument("--quality", choices=("stream", "best"), default="best", help="best: beam search (the default)")
    parser.add_argument("--max-new-tokens", metavar="N", type=int, default=options.CAPTION.max_new_tokens)
    parser.add_argument("--batch-size", metavar="N", default="auto", help="captions written at once (default auto)")
    parser.add_argument("--format", choices=FORMATS, default="jsonl", help="what is made of it at the end")
    parser.add_argument("--existing", choices=EXISTING, default="skip", help="what becomes of an output that is there")
    parser.add_argument("--retry-errors", action="store_true", help="try again what failed before")
    parser.add_argument("--limit", metavar="N", type=int, help="no more pictures than so many")
    parser.add_argument("--workers", metavar="N", type=int, default=2, help="threads that read pictures (default 2)")
    parser.add_argument("--prefix", default="", help="before each caption in a text file")
    parser.add_argument("--suffix", default="", help="after it")
    parser.add_argument("--json", action="store_true", help="progress as one JSON object a line")
    parser.add_argument("--ray", metavar="ADDRESS", help="on a Ray cluster: its HOST:PORT, auto, or local")


def caption_folder(given: argparse.Namespace, spec: catalogue.ModelSpec, precision: str) -> int:
    """Do the job; the exit code."""
    names = files.find(given.folder, recursive=given.recursive, pattern=given.glob, limit=_limit(given.limit))
    codes = _languages(given, spec)
    batch_size = _batch_size(given.batch_size)
    if given.format == "txt":
        files.refuse_twins(names)
    if given.workers < 1:
        raise UserError("--workers must be at least 1.")
    decoding = options.check(max_new_tokens=given.max_new_tokens, quality=given.quality)
    with Ledger(_ledger(given)) as ledger, _crew(given, spec, batch_size) as crew:
        _prepare(ledger, given)
        if given.format == "txt" and given.existing == "skip":
            names = _without_own_texts(names, given.folder, ledger)
        decided = _precision(spec, precision, ledger, choose=crew.choose if crew else None)
        tasks = [Task(spec.name, decided, code, given.prompt, decoding) for code in codes]
        job = Job(
            given.folder,
            names,
            tasks,
            load=lambda: _load(spec, decided),
            batch_size=batch_size,
            workers=given.workers,
            again=given.existing == "append",
            elsewhere=crew.write if crew else None,
        )
        tally = _run(job, ledger, given)
        _export(ledger, given, set(names), tasks)
    return _closing(tally, given)


def _run(job: Job, ledger: Ledger, given: argparse.Namespace) -> Tally:
    shown = _Shown(as_json=given.json)
    run = Run(job, ledger, tell=shown)
    before = signal.getsignal(signal.SIGINT)

    def end(*_: object) -> None:
        """After the batch in hand; who presses it twice does not wait for that."""
        run.stop()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, end)
    try:
        tally = run.run()
    finally:
        signal.signal(signal.SIGINT, before)
        shown.close()
    return tally


class _Shown:
    """Tells how far the job is: a line that changes on a terminal, elsewhere one now and then."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._terminal = sys.stderr.isatty() and not as_json
        self._last = time.monotonic()

    def __call__(self, tally: Tally) -> None:
        now = time.monotonic()
        if now - self._last < SHOWN_EVERY_SECONDS[self._terminal]:
            return
        self._last = now
        if self._json:
            print_json(event="progress", **_figures(tally))
        elif self._terminal:
            print(f"\r\x1b[K{tally}", end="", file=sys.stderr, flush=True)
        else:
            print(f"blip-space: {tally}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _figures(tally: Tally) -> dict[str, Any]:
    left = tally.seconds_left
    return {
        "done": tally.done,
        "total": tally.total,
        "written": tally.written,
        "copied": tally.copied,
        "skipped": tally.skipped,
        "errors": len(tally.errors),
        "captions_per_second": round(tally.a_second, 2),
        "seconds_left": None if left is None else round(left, 1),
    }


def _closing(tally: Tally, given: argparse.Namespace) -> int:
    """What was done, and the way on."""
    if given.json:
        print_json(event="stopped" if tally.stopped else "end", **_figures(tally))
    else:
        print(
            f"blip-space: {tally.written:,} captions written, {tally.copied:,} copied from equal pictures, "
            f"{tally.skipped:,} were there, {len(tally.errors)} errors",
            file=sys.stderr,
        )
    for file, error in tally.errors[:MOST_NAMED]:
        print(f"blip-space: {file}: {error}", file=sys.stderr)
    if tally.errors and not given.retry_errors:
        print("blip-space: --retry-errors tries them again", file=sys.stderr)
    if len(tally.errors) > MOST_NAMED:
        print(f"blip-space: and {len(tally.errors) - MOST_NAMED:,} more, in the output", file=sys.stderr)
    if tally.stopped:
        print("blip-space: stopped; the same command goes on where this one ended", file=sys.stderr)
        return STOPPED
    return 1 if tally.errors else 0


def _prepare(ledger: Ledger, given: argparse.Namespace) -> None:
    """What `--existing` and `--retry-errors` do to the lines that are there."""
    if given.existing == "overwrite":
        ledger.keep_only(lambda _: False)
    elif given.retry_errors:
        ledger.keep_only(lambda record: record.error is None)


def _without_own_texts(names: list[str], folder: Path, ledger: Ledger) -> list[str]:
    """Text files that this program did not write are somebody's work, and stay."""
    ours = {file for file, _ in ledger.lines}
    return [name for name in names if name in ours or not (folder / name).with_suffix(".txt").exists()]


def _crew(given: argparse.Namespace, spec: catalogue.ModelSpec, batch_size: int | None) -> Any:
    """The workers of a cluster, where one is named."""
    if given.ray is None:
        return nullcontext()
    from blip_space.apps.cluster.crew import crew

    return crew(given.ray, spec, given.folder, batch_size=batch_size, threads=given.workers)


def _precision(
    spec: catalogue.ModelSpec, wanted: str, ledger: Ledger, *, choose: Callable[[str], str] | None = None
) -> str:
    """What is asked for; `auto` stays what it was for the lines that are there, whatever memory is free today."""
    before = next((key[2] for key in ledger.known if key[1] == spec.name), None)
    if wanted == "auto" and before:
        return before
    if choose:
        return choose(wanted)
    from blip_space.model import precision
    from blip_space.model.device import find_device, free_bytes

    device = find_device()
    return precision.choose(wanted, spec, device, free=free_bytes(device.name)).name


def _load(spec: catalogue.ModelSpec, precision: str) -> Any:
    from blip_space.model import loader

    return loader.load(spec, precision, tell=progress(spec.name))


def _export(ledger: Ledger, given: argparse.Namespace, names: set[str], tasks: list[Task]) -> None:
    if given.format == "jsonl":
        return
    records = ledger.records()
    if given.format == "txt":
        keys = {(task.model, task.precision, task.language, task.prompt) for task in tasks}
        mine = [record for record in records if record.file in names and record.key()[1:5] in keys]
        export.write_texts(mine, given.folder, prefix=given.prefix, suffix=given.suffix)
        return
    write: Callable[[list[Record], Path], None] = export.write_json if given.format == "json" else export.write_csv
    write(records, given.output)


def _ledger(given: argparse.Namespace) -> Path:
    """Lines are appended to a file of lines, whatever is made of it at the end."""
    output: Path = given.output
    return output if given.format in ("jsonl", "txt") else output.with_name(f"{output.name}.jsonl")


def _languages(given: argparse.Namespace, spec: catalogue.ModelSpec) -> list[str]:
    codes = [code.strip() for code in given.language.split(",") if code.strip()]
    for code in codes:
        languages.find(code)
        refuse_foreign(spec, code)
    if not codes or (given.format == "txt" and len(codes) > 1):
        raise UserError("--format txt holds one caption a picture. Name one --language, or choose another format.")
    return list(dict.fromkeys(codes))


def _limit(limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        raise UserError("--limit must be at least 1.")
    return limit


def _batch_size(text: str) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
        raise UserError("--batch-size must be auto or a whole number from 1 to 1024.")
    return int(text)
