"""`python -m benchmarks.attacks`: what one caller can take of a server that others use as well.

Measures the longest response of /healthz beside single requests of at most 30 MB, a quiet user's answers beside one
greedy caller, the memory that 40 callers with the largest allowed images take, the disk that one caller can take, and
how a server with 24 open streams ends. Every input is harmless: what it shows is that limits hold. On a machine with
other work all times are upper bounds; --only names the measurements to make.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from benchmarks.clients import draw_image
from benchmarks.load.caller import Caller, CallError
from benchmarks.load.pings import pings
from benchmarks.load.requests import bodies, history, large_image, send
from benchmarks.load.server import MemoryLog, ServerProcess, running

GREEDY, QUIET = 2, 3
QUIET_ANSWERS = 10
LONG = {"prompt": "What is this?", "max_new_tokens": 512, "repetition_penalty": 1.2}
STREAMS = 24
LARGE_IMAGES = 40
UPLOAD_BYTES = 19_500_000
MAX_UPLOADS = 120

Row = tuple[str, str, str]
"""What, its figure, its target."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; a row for each figure."""
    measurements: dict[str, Callable[[bytes], list[Row]]] = {
        "freezes": measure_freezes, "quiet": measure_quiet, "memory": measure_memory, "disk": measure_disk,
        "stopping": measure_stopping,
    }  # fmt: skip
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks", description=__doc__)
    parser.add_argument("--only", default=",".join(measurements), help="some of them, separated by commas")
    names = parser.parse_args(arguments).only.split(",")
    with tempfile.TemporaryDirectory() as folder:
        image = draw_image(Path(folder), 2).read_bytes()
    print(f"load {os.getloadavg()[0]:.1f}\n\n| what | measured | target |\n|---|--:|--:|")
    for name in names:
        for what, figure, target in measurements[name](image):
            print(f"| {what} | {figure} | {target} |", flush=True)
    return 0


def measure_freezes(image: bytes) -> list[Row]:
    """The longest response of /healthz beside each request."""
    rows = []
    with running() as server:
        caller = Caller(server.url, GREEDY)
        uploaded = caller.upload(image)
        caller.ask("chat", image=uploaded, prompt="")
        with pings(server.url) as alone:
            time.sleep(2)
        rows.append(("/healthz, longest response with nothing beside it", f"{max(alone):.2f} s", ""))
        longest = 0.0
        for name, path, body in bodies(uploaded):
            with pings(server.url) as seconds:
                outcome = send(caller, path, body)
            longest = max(longest, *seconds)
            rows.append((f"/healthz beside {name} ({len(body) / 1e6:.1f} MB: {outcome})", f"{max(seconds):.2f} s", ""))
        rows.append(("/healthz, longest of these", f"{longest:.2f} s", "0.5 s"))
    return rows


def measure_quiet(image: bytes) -> list[Row]:
    """The answers of a quiet user, alone and beside each greedy caller."""
    rows = []
    with running() as server:
        quiet = Caller(server.url, QUIET)
        alone = _answer_seconds(quiet, image, QUIET_ANSWERS)
        rows.append(("a quiet user's answer, alone, median and longest", _pair(alone), ""))
        target = f"{max(1.0, 3 * statistics.median(alone)):.2f} s"
        for name, act, threads in _greedy_callers():
            done = threading.Event()
            greedy = [
                threading.Thread(target=_repeat, args=(act, server.url, image, done, number))
                for number in range(threads)
            ]
            for thread in greedy:
                thread.start()
            time.sleep(1)
            beside = _answer_seconds(quiet, image, QUIET_ANSWERS)
            done.set()
            for thread in greedy:
                thread.join()
            rows.append((f"beside {name}", _pair(beside), target))
            _wait_until_idle(server)
    return rows


def measure_memory(_image: bytes) -> list[Row]:
    """The memory that many callers with the largest allowed images take."""
    images = [large_image(number) for number in range(LARGE_IMAGES)]
    errors: list[str] = []
    with running() as server:
        before = server.memory()

        def ask(number: int) -> None:
            caller = Caller(server.url, number + 2)
            try:
                caller.ask("chat", image=caller.upload(images[number]), prompt="", max_new_tokens=4)
            except (CallError, httpx.HTTPError) as error:
                errors.append(str(error))

        started = time.monotonic()
        with MemoryLog(server, interval_seconds=0.02) as memory:
            _run_all([partial(ask, number) for number in range(LARGE_IMAGES)])
        seconds = time.monotonic() - started
    figure = f"{(memory.peak - before) / 1e9:.2f} GB"
    what = f"memory that {LARGE_IMAGES} callers take, each with a PNG of 64 megapixels, RGBA"
    return [(f"{what} ({len(errors)} refused, {seconds:.0f} s)", figure, "1 GB")]


def measure_disk(_image: bytes) -> list[Row]:
    """The bytes that one caller can store."""
    with running() as server:
        caller, data, refused = Caller(server.url, GREEDY), bytes(UPLOAD_BYTES - 100), ""
        for number in range(MAX_UPLOADS):
            try:
                caller.upload(data + number.to_bytes(4, "big"), "large.png")
            except CallError as error:
                refused = f"{number} uploads, then {error.code}"
                break
        size = sum(file.stat().st_size for file in server.uploads.rglob("*") if file.is_file())
    return [(f"disk that one caller takes ({refused or 'not refused'})", f"{size / 1e9:.2f} GB", "1 GB")]


def measure_stopping(image: bytes) -> list[Row]:
    """How a server with open streams ends."""
    with running(["--endless"]) as server:
        ends, first = [""] * STREAMS, threading.Barrier(STREAMS + 1)

        def listen(number: int) -> None:
            caller = Caller(server.url, number + 2)
            event = caller.call("chat", image=caller.upload(image), **LONG)
            try:
                with caller.listen("chat", event) as messages:
                    first.wait(60)
                    for kind, data in messages:
                        ends[number] = json.dumps([kind, data])
            except httpx.HTTPError as error:
                ends[number] = repr(error)

        threads = [threading.Thread(target=listen, args=(number,)) for number in range(STREAMS)]
        for thread in threads:
            thread.start()
        first.wait(60)
        time.sleep(0.5)
        started = time.monotonic()
        server.send_signal(signal.SIGTERM)
        code = server.process.wait(60)
        seconds = time.monotonic() - started
        for thread in threads:
            thread.join()
    sentences = sum(end.startswith('["error"') and "." in end for end in ends)
    what = f"SIGTERM with {STREAMS} open streams (exit code {code}"
    return [(f"{what}, {sentences} end with a sentence)", f"{seconds:.2f} s", "3 s")]


def _greedy_callers() -> list[tuple[str, Callable[[Caller, dict[str, Any]], None], int]]:
    """What one caller does, and in how many threads."""
    turns, words = history(), "what is this " * 15_000

    def join(caller: Caller, image: dict[str, Any]) -> None:
        caller.call("chat", image=image, **LONG)

    def listen(**values: Any) -> Callable[[Caller, dict[str, Any]], None]:
        return lambda caller, image: caller.ask("chat", **({"image": image} | values))

    return [
        ("calls without a listener, as many as are accepted", join, 4),
        ("44 long answers at once", listen(**LONG), 44),
        ("8 beam searches of 512 tokens", listen(**LONG, quality="best"), 8),
        ("8 histories of 1 MB at once", listen(prompt="?", history=turns), 8),
        ("8 prompts of 195,000 characters", listen(prompt=words), 8),
        ("8 uploads and questions at once", lambda caller, _: _upload_and_ask(caller), 8),
    ]


def _upload_and_ask(caller: Caller) -> None:
    caller.ask("chat", image=caller.upload(large_image(int(time.time() * 1000))), prompt="", max_new_tokens=4)


def _repeat(act: Callable[..., None], url: str, image: bytes, done: threading.Event, _number: int) -> None:
    caller = Caller(url, GREEDY, timeout=60)
    uploaded = caller.upload(image)
    while not done.is_set():
        try:
            act(caller, uploaded)
        except (CallError, httpx.HTTPError):
            done.wait(0.05)


def _answer_seconds(caller: Caller, image: bytes, count: int) -> list[float]:
    """Of each answer, and of a new upload before it."""
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        try:
            caller.ask("chat", image=caller.upload(image), prompt="How many shapes are there?")
        except CallError as error:
            print(f"a quiet user was refused: {error}")
        seconds.append(time.perf_counter() - started)
    return seconds


def _pair(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} / {max(seconds):.2f} s"


def _wait_until_idle(server: ServerProcess) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = httpx.get(f"{server.url}/healthz", timeout=60, trust_env=False).json()
        if not state["waiting"] + state["running"]:
            return
        time.sleep(0.2)


def _run_all(tasks: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    raise SystemExit(main())
