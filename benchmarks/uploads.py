"""`python -m benchmarks.uploads`: many large images at once, with and without a running stream, and two models in turn.

The images are PNGs of one colour and 8000 x 8000 pixels: small files that take 256 MB each while they are decoded. Each
arrives in its own thread, as an upload does; an engine that decodes all at once takes 10 to 20 GB for the default of
forty. Prints the longest pause of a stream while --paused of them arrive, the peak increase of the memory of this
process and its decoder processes while --requests of them, from as many callers, are answered, what a decoder process
adds to the time of an answer about a photograph, and how often models are loaded for requests to the embedded model, a
copy of it and the embedded model again. With --json the results are printed as JSON.
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

from PIL import Image

from benchmarks import report
from benchmarks.engine import suppress_stop_tokens
from blip_space import catalogue, images, settings
from blip_space.callers import Caller
from blip_space.engine.request import EngineConfig, Request
from blip_space.images import uploaded
from blip_space.loading import loader
from blip_space.options import GenerationOptions
from blip_space.serving.threaded import ThreadedEngine

SIDE = 8_000
PNG_END_BYTES = 12
PHOTOGRAPH = (4_000, 3_000)
REPETITIONS = 15
STREAM = GenerationOptions(max_new_tokens=512, repetition_penalty=1.2)
ANSWER = GenerationOptions(max_new_tokens=4)
WARM_UPDATES = 200
"""The updates of a stream before the measurement; the first quarter of them is the warm-up."""

QUESTION = "What is this?"
INTERVAL_SECONDS = 0.01


class Stream:
    """A user with one question after another, and the time of each update."""

    def __init__(self, engine: ThreadedEngine) -> None:
        self.times: list[float] = []
        self._engine = engine
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start it, wait until it is warm, and stop it when the context ends."""
        self._thread.start()
        try:
            self.wait(lambda: len(self.times) >= WARM_UPDATES)
            yield
        finally:
            self._done.set()
            self._thread.join()

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition is true, or the stream has failed."""
        while self._thread.is_alive() and not condition():
            time.sleep(INTERVAL_SECONDS)

    def pauses(self, since: float, until: float) -> list[float]:
        """The seconds between two updates, from the last before `since` to the first after `until`."""
        return [after - before for before, after in pairwise(self.times) if after >= since and before <= until]

    def _follow(self) -> None:
        example = images.decode(catalogue.TINY_FOLDER.parent / "examples" / "octopus.png")
        while not self._done.is_set():
            for _ in self._engine.submit(Request(example, QUESTION, options=STREAM)):
                self.times.append(time.perf_counter())
                if self._done.is_set():
                    return


def main() -> None:
    """Measure all three and print."""
    args = _arguments()
    settings.prepare_libraries()
    loads: list[str] = []
    with (
        tempfile.TemporaryDirectory() as temporary,
        _engine(loads, [copy_model(Path(temporary) / "copy")], args.requests) as engine,
    ):
        figures: dict[str, Any] = {"machine": report.machine(), "load": round(os.getloadavg()[0], 2)}
        ask_at_once(engine, make_pngs(1, side=64))
        figures |= measure_memory(engine, args.requests)  # first, while there is no freed memory to reuse
        figures |= measure_pause(engine, args.paused)
        figures |= measure_photograph(engine)
        figures |= count_loads(engine, loads)
    if args.json:
        print(json.dumps(figures))
        return
    print(f"{figures.pop('machine')}, load {figures.pop('load')}\n")
    for name, value in figures.items():
        print(f"{name.replace('_', ' ')}: {value}")


def measure_pause(engine: ThreadedEngine, count: int) -> dict[str, Any]:
    """The pauses of a stream before and while large images arrive."""
    files, stream = make_pngs(count), Stream(engine)
    with stream.running():
        started = time.perf_counter()
        seconds = ask_at_once(engine, files)
        ended = time.perf_counter()
        stream.wait(lambda: stream.times[-1] > ended)
    before = stream.pauses(stream.times[WARM_UPDATES // 4], started - INTERVAL_SECONDS)
    during = stream.pauses(started, ended)
    return {
        "images_during_a_stream": count,
        "file_kilobytes": round(len(files[0]) / 1000),
        "longest_pause_before_ms": round(1000 * max(before)),
        "longest_pause_ms": round(1000 * max(during)),
        "median_pause_ms": round(1000 * statistics.median(during), 1),
        "seconds_until_all_are_answered": round(max(seconds), 1),
    }


def measure_memory(engine: ThreadedEngine, count: int) -> dict[str, Any]:
    """The peak increase of memory while large images are decoded and asked about, all at once."""
    files, memory = make_pngs(count, first=1_000), report.PeakMemory(others=lambda: uploaded.POOL.pids)
    with memory.measured(INTERVAL_SECONDS):
        seconds = ask_at_once(engine, files)
    return {
        "requests_at_once": count,
        "peak_increase_of_memory_gb": round(memory.increase / 1e9, 2),
        "seconds_until_all_requests_are_answered": round(max(seconds), 1),
    }


def measure_photograph(engine: ThreadedEngine) -> dict[str, Any]:
    """The time of the answer about a JPEG of 12 megapixels, decoded in this process and in another one, in turn."""
    noise = Image.effect_noise(PHOTOGRAPH, 20).convert("RGB")
    photograph = _encoded(Image.blend(noise, Image.linear_gradient("L").resize(PHOTOGRAPH).convert("RGB"), 0.8), "JPEG")
    seconds: dict[type, list[float]] = {images.ImageFile: [], uploaded.UploadedImageFile: []}
    for number in range(REPETITIONS):
        for kind, times in seconds.items():
            comment = b"%d %s" % (number, kind.__name__.encode())
            data = photograph[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + photograph[2:]
            started = time.perf_counter()
            list(engine.submit(Request(kind(data), QUESTION, options=ANSWER)))
            times.append(time.perf_counter() - started)
    here, there = (round(1000 * statistics.median(times), 1) for times in seconds.values())
    return {
        "answer_about_a_photograph_ms": here,
        "answer_about_an_uploaded_photograph_ms": there,
        "added_by_another_process_ms": round(there - here, 1),
    }


def count_loads(engine: ThreadedEngine, loads: list[str]) -> dict[str, Any]:
    """The models that were loaded since the start, after requests to the default model, another one and the default."""
    first, other = engine.specs
    for name in (first, other, first):
        ask_at_once(engine, make_pngs(1, side=64), model=name)
    return {"loads_of_A_B_A": len(loads), "loaded_in_order": ", ".join(loads)}


def ask_at_once(engine: ThreadedEngine, files: Sequence[bytes], *, model: str = "") -> list[float]:
    """Ask about all files at once; returns the seconds of each answer. Raises the first error."""
    seconds, errors = list[float](), list[Exception]()

    def ask(number: int, data: bytes) -> None:
        started = time.perf_counter()
        try:
            image = uploaded.UploadedImageFile(data, caller=Caller(f"127.0.0.{number}", ""))
            list(engine.submit(Request(image, QUESTION, model=model, options=ANSWER)))
        except Exception as error:
            errors.append(error)
        seconds.append(time.perf_counter() - started)

    threads = [threading.Thread(target=ask, args=item) for item in enumerate(files)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return seconds


def make_pngs(count: int, *, first: int = 0, side: int = SIDE) -> list[bytes]:
    """Squares of one colour, which differ only by a comment."""
    data = _encoded(Image.new("RGB", (side, side), (30, 90, 160)), "PNG")
    end = len(data) - PNG_END_BYTES
    return [data[:end] + _comment(first + index) + data[end:] for index in range(count)]


def _encoded(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def _comment(number: int) -> bytes:
    """A text chunk of a PNG: length, type, text and checksum."""
    content = b"tEXtComment\0%d" % number
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def copy_model(folder: Path) -> catalogue.ModelSpec:
    """Copy the embedded model, under the folder's name."""
    shutil.copytree(catalogue.TINY_FOLDER, folder)
    file = folder / "blip_space.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"name": folder.name}), "utf-8")
    return catalogue.find_model(str(folder), folders=True)


@contextmanager
def _engine(loads: list[str], others: Sequence[catalogue.ModelSpec], requests: int) -> Iterator[ThreadedEngine]:
    """An engine with the embedded model and others, without stop tokens; every load adds a name to `loads`."""

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
            time.sleep(INTERVAL_SECONDS)
        yield engine
    finally:
        engine.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uploads", description=__doc__)
    parser.add_argument("--paused", type=int, default=6, help="images that arrive during a stream")
    parser.add_argument("--requests", type=int, default=40, help="images that are answered at once")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
