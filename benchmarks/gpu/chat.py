"""Users of a server, through `/chat` and gradio_client, against the same users at the engine alone."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import devices, random_weights, serving
from benchmarks.baseline import make_image
from benchmarks.gpu import users
from benchmarks.gpu.setup import OPT, Row, Section, Setup
from blip_space.catalogue import read_folder

USERS_PER_PROCESS = 8
"""A client costs about as much as the server's part of an answer, so the clients are spread over processes."""

Answers = list[list[tuple[str, float]]]
"""For each user and turn the text and the seconds until its first token."""


def chat(setup: Setup) -> Iterator[Row]:
    """The largest number of users, with the engine in the server's process and in one of its own."""
    if not all(importlib.util.find_spec(name) for name in ("gradio", "gradio_client")):
        yield {"engine in": "gradio is not installed, so this was not measured"}
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder, count = Path(temporary) / OPT, setup.sizes.users[-1]
        _save(setup, folder)
        images = _save_images(Path(temporary), 2 * count)
        alone = _at_the_engine(setup, folder, count)
        for process in ("1",) if setup.is_dry_run else ("1", "0"):
            with _server(setup, folder, count, process) as url:
                _chat(setup, url, images[count:])  # to warm up; graphs are captured when nothing runs
                _wait_until_captured(setup, url)
                answers, seconds = _chat(setup, url, images[:count])
            firsts = [first for own in answers for _, first in own]
            rate = count * setup.sizes.turns * setup.sizes.answer_tokens / seconds
            yield {
                "engine in": "a process of its own" if process == "1" else "the server's process",
                "users": count,
                "engine alone, tokens/s": alone,
                "through /chat, tokens/s": rate,
                "share": rate / alone,
                "first token, ms": 1000 * statistics.median(firsts),
                "slowest, ms": 1000 * max(firsts),
                "empty answers": sum(not reply for own in answers for reply, _ in own),
            }


def _save(setup: Setup, folder: Path) -> None:
    """A checkpoint that no token ends, so that each answer has all its tokens."""
    setup.free()
    random_weights.save(OPT, folder, device=setup.device, small=setup.is_dry_run)
    setup.free()
    file = folder / "generation_config.json"
    settings = json.loads(file.read_text("utf-8")) | {"eos_token_id": None}
    file.write_text(json.dumps(settings), encoding="utf-8")


def _save_images(folder: Path, count: int) -> list[Path]:
    files = [folder / f"{user}.png" for user in range(count)]
    for user, file in enumerate(files):
        make_image(2 * users.OTHER_IMAGES + user).pixels.save(file)
    return files


def _at_the_engine(setup: Setup, folder: Path, count: int) -> float:
    """Tokens a second of the same checkpoint without a server."""
    model = devices.load_model(read_folder(folder), "fp32" if setup.is_dry_run else "bf16", setup.device)
    with serving.running(serving.new_engine(model, setup.config(count))) as engine:
        users.warm_up(setup, engine, count)
        _, seconds = users.converse(setup, engine, count)
    del model, engine
    setup.free()
    return count * setup.sizes.turns * setup.sizes.answer_tokens / seconds


@contextmanager
def _server(setup: Setup, folder: Path, rows: int, process: str) -> Iterator[str]:
    port = _free_port()
    command = [sys.executable, "-m", "blip_space", "serve", "--model", str(folder), "--port", str(port)]
    command += ["--rows", str(rows), "--device", setup.device, "--precision", "fp32" if setup.is_dry_run else "bf16"]
    with tempfile.TemporaryFile() as log:
        environment = os.environ | {"BLIP_SPACE_PROCESS": process}
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_until_ready(server, url)
            yield url
        except Exception:
            log.seek(0)
            print(log.read().decode(errors="replace")[-4000:], file=sys.stderr)
            raise
        finally:
            server.terminate()
            server.wait(30)


def _wait_until_ready(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if _health(url)["status"] == "ready":
                return
        except OSError:  # not listening yet
            pass
        time.sleep(0.2)
    raise RuntimeError("the server is not ready")


def _health(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:
        health: dict[str, Any] = json.load(answer)
        return health


def _wait_until_captured(setup: Setup, url: str) -> None:
    """Until the graphs that were missing are there."""
    before = ""
    while (now := str(_health(url).get("decode_reason"))) != before:
        before = now
        time.sleep(setup.settle_seconds)


def _chat(setup: Setup, url: str, files: list[Path]) -> tuple[Answers, float]:
    """The answers, and the seconds of everything, from the first question to the last answer."""
    groups = [files[start : start + USERS_PER_PROCESS] for start in range(0, len(files), USERS_PER_PROCESS)]
    context, turns, tokens = multiprocessing.get_context("spawn"), setup.sizes.turns, setup.sizes.answer_tokens
    with context.Manager() as manager, ProcessPoolExecutor(len(groups), mp_context=context) as processes:
        ready = manager.Barrier(len(groups))
        results = [processes.submit(_converse, url, group, turns, tokens, ready) for group in groups]
        done = [result.result() for result in results]
    seconds = max(end for _, _, end in done) - min(start for _, start, _ in done)
    return [answers for own, _, _ in done for answers in own], seconds


def _converse(url: str, files: list[Path], turns: int, tokens: int, ready: Any) -> tuple[Answers, float, float]:
    """The answers of some users at once, and when they began and ended, by the clock of the machine."""
    from gradio_client import Client

    from benchmarks import clients

    with ThreadPoolExecutor(len(files)) as threads:
        connected = list(threads.map(lambda _: Client(url, verbose=False), files))
        ready.wait()
        started = time.time()
        answers = threads.map(
            lambda client, file: clients.converse(client, file, turns, max_new_tokens=tokens), connected, files
        )
        return list(answers), started, time.time()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


SECTIONS = (Section("chat", "The same users through /chat", chat),)
