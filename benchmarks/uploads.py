"""`python -m benchmarks.uploads`: large images at once beside a running stream, and two models by turns.

The images are one-coloured PNGs of 8000 x 8000 pixels: small files that take 256 MB each while they are decoded. Each
comes in a thread of its own, as uploads do; an engine that decodes all at once takes 10 to 20 GB for the default of
forty. Prints the longest pause of a stream while --paused of them come, how much memory the process holds more at its
highest while --requests of them are answered, and how often models are loaded when the embedded model, a copy of it
and the embedded model again are asked. With --json the figures are printed as JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from benchmarks import report
from benchmarks.engine import suppress_stop_tokens
from blip_space import catalogue, images, settings
from blip_space.engine.request import EngineConfig, Request
from blip_space.loading import loader
from blip_space.options import GenerationOptions
from blip_space.serving.threaded import ThreadedEngine

SIDE = 8_000
PNG_END_BYTES = 12
STREAM = GenerationOptions(max_new_tokens=512, repetition_penalty=1.2)
ANSWER = GenerationOptions(max_new_tokens=4)
WARM_UPDATES = 200
"""So many texts of a stream are there before anything else happens; the first quarter, while everything is new, counts
for nothing."""

QUESTION = "What is this?"
WATCH_SECONDS = 0.01


class Stream:
    """A user who asks again and again, and when each new text came."""

    def __init__(self, engine: ThreadedEngine) -> None:
        self.times: list[float] = []
        self._engine = engine
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    @contextmanager
    def running(self) -> Iterator[None]:
        """It is under way when the block begins, and ends with it."""
        self._thread.start()
        try:
            self.wait(lambda: len(self.times) >= WARM_UPDATES)
            yield
        finally:
            self._done.set()
            self._thread.join()

    def wait(self, until: Callable[[], bool]) -> None:
        """Until this is so, or the stream has failed."""
        while self._thread.is_alive() and not until():
            time.sleep(WATCH_SECONDS)

    def pauses(self, since: float, until: float) -> list[float]:
        """The seconds between two texts, from the last one before `since` to the first one after `until`."""
        return [after - before for before, after in pairwise(self.times) if after >= since and before <= until]

    def _follow(self) -> None:
        example = images.decode(catalogue.TINY_FOLDER.parent / "examples" / "octopus.png")
        while not self._done.is_set():
            for _ in self._engine.submit(Request(example, QUESTION, options=STREAM)):
                self.times.append(time.perf_counter())
                if self._done.is_set():
                    return


class Memory:
    """Watches how many bytes more the process holds than when it began to watch."""

    def __init__(self) -> None:
        self.highest = 0
        self._process, self._done = psutil.Process(), threading.Event()
        self._before = self._process.memory_info().rss

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The highest is that of the block."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def _watch(self) -> None:
        while not self._done.wait(WATCH_SECONDS):
            self.highest = max(self.highest, self._process.memory_info().rss - self._before)


def main() -> None:
    """Measure all three, and print."""
    args = _arguments()
    settings.prepare_libraries()
    loads: list[str] = []
    with (
        tempfile.TemporaryDirectory() as place,
        _engine(loads, [copied(Path(place) / "twin")], args.requests) as engine,
    ):
        figures: dict[str, Any] = {"machine": report.machine(), "load": round(os.getloadavg()[0], 2)}
        visit(engine, pngs(1, side=64))
        figures |= measure_memory(engine, args.requests)  # first, while no memory is there to be used again
        figures |= measure_pause(engine, args.paused)
        figures |= count_loads(engine, loads)
    if args.json:
        print(json.dumps(figures))
        return
    print(f"{figures.pop('machine')}, load {figures.pop('load')}\n")
    for name, value in figures.items():
        print(f"{name.replace('_', ' ')}: {value}")


def measure_pause(engine: ThreadedEngine, count: int) -> dict[str, Any]:
    """How long a stream pauses while large images come, and how long it does so when nothing else happens."""
    files, stream = pngs(count), Stream(engine)
    with stream.running():
        started = time.perf_counter()
        answered = visit(engine, files)
        ended = time.perf_counter()
        stream.wait(lambda: stream.times[-1] > ended)
    before = stream.pauses(stream.times[WARM_UPDATES // 4], started - WATCH_SECONDS)
    beside = stream.pauses(started, ended)
    return {
        "images_beside_a_stream": count,
        "file_kilobytes": round(len(files[0]) / 1000),
        "longest_pause_before_ms": round(1000 * max(before)),
        "longest_pause_ms": round(1000 * max(beside)),
        "median_pause_ms": round(1000 * statistics.median(beside), 1),
        "seconds_until_all_are_answered": round(max(answered), 1),
    }


def measure_memory(engine: ThreadedEngine, count: int) -> dict[str, Any]:
    """How much more memory the process holds while large images are decoded and asked about, all at once."""
    files, memory = pngs(count, first=1_000), Memory()
    with memory.watched():
        answered = visit(engine, files)
    return {
        "requests_at_once": count,
        "highest_growth_of_memory_gb": round(memory.highest / 1e9, 2),
        "seconds_until_all_requests_are_answered": round(max(answered), 1),
    }


def count_loads(engine: ThreadedEngine, loads: list[str]) -> dict[str, Any]:
    """Which models are loaded when the default, another one and the default again are asked, from the start on."""
    first, other = engine.specs
    for name in (first, other, first):
        visit(engine, pngs(1, side=64), model=name)
    return {"loads_of_A_B_A": len(loads), "loaded_in_turn": ", ".join(loads)}


def visit(engine: ThreadedEngine, files: Sequence[bytes], *, model: str = "") -> list[float]:
    """Ask about each file at once; the seconds until each is answered. The first error is raised."""
    seconds, errors = list[float](), list[Exception]()

    def ask(data: bytes) -> None:
        started = time.perf_counter()
        try:
            list(engine.submit(Request(images.ImageFile(data), QUESTION, model=model, options=ANSWER)))
        except Exception as error:
            errors.append(error)
        seconds.append(time.perf_counter() - started)

    threads = [threading.Thread(target=ask, args=(data,)) for data in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return seconds


def pngs(count: int, *, first: int = 0, side: int = SIDE) -> list[bytes]:
    """Squares of one colour, which differ from each other by a comment only."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), (30, 90, 160)).save(file, "PNG")
    data = file.getvalue()
    end = len(data) - PNG_END_BYTES
    return [data[:end] + _comment(first + index) + data[end:] for index in range(count)]


def _comment(number: int) -> bytes:
    """A chunk of text, as PNG has it: length, type, text and checksum."""
    content = b"tEXtComment\0%d" % number
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def copied(folder: Path) -> catalogue.ModelSpec:
    """The embedded model under the folder's name."""
    shutil.copytree(catalogue.TINY_FOLDER, folder)
    file = folder / "blip_space.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"name": folder.name}), "utf-8")
    return catalogue.find_model(str(folder), folders=True)


@contextmanager
def _engine(loads: list[str], others: Sequence[catalogue.ModelSpec], requests: int) -> Iterator[ThreadedEngine]:
    """An engine with the embedded model and others, all of which answer without end; `loads` notes their loading."""

    def load(spec: catalogue.ModelSpec, precision: str, *_: Any) -> Any:
        loads.append(spec.name)
        model = loader.load_model(spec, precision)
        suppress_stop_tokens(model)
        return model

    engine = ThreadedEngine(
        [catalogue.find_model("tiny"), *others], load=load, config=EngineConfig(max_waiting=max(32, requests))
    )
    engine.start()
    try:
        while engine.status().status == "loading":
            time.sleep(WATCH_SECONDS)
        yield engine
    finally:
        engine.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uploads", description=__doc__)
    parser.add_argument("--paused", type=int, default=6, help="images that come beside a stream")
    parser.add_argument("--requests", type=int, default=40, help="images that are answered at once")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
