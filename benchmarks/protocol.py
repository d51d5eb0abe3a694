"""`python -m benchmarks.protocol`: OpenAI's protocol against the engine behind it, in one run.

A server answers --streams streams at once over `/v1`, each of --tokens tokens; an equal engine in this process answers
the same requests without a server; they alternate, and the medians are compared. Then one caller alone: the time to
the first text of both, and how long the place of a stream that its client leaves is taken. The model is the embedded
one, with another stop token, so that answers go on. Ends with 1 if a figure misses its target, unless --report.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from benchmarks.clients import draw_image
from blip_space import catalogue, settings
from blip_space.engine.request import EngineConfig, Request
from blip_space.images.uploaded import POOL, UploadedImageFile
from blip_space.options import GenerationOptions
from blip_space.serving.threaded import ThreadedEngine

ROOT = Path(__file__).resolve().parents[1]
PROMPT = "What is this?"
NO_STOP = 2
"""The token for unknown text, which is never generated."""

MIN_RATIO, MAX_EXTRA_MS, MAX_FREE_MS = 0.8, 20.0, 200.0
"""The targets: tokens per second, the first text, and the place of a stream that was left."""

LONG_SECONDS = 600


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.protocol", description=__doc__)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--process", action="store_true", help="the server's engine has a process of its own")
    parser.add_argument("--report", action="store_true", help="end with 0 even if a figure misses its target")
    args = parser.parse_args()
    settings.prepare_libraries()
    with tempfile.TemporaryDirectory() as root:
        folder = _write_model(Path(root) / "endless")
        images = [draw_image(Path(root), number).read_bytes() for number in range(args.streams)]
        with _serving(folder, args.streams, Path(root), is_separate=args.process) as port, _engine(folder, args) as own:
            rows = _measure(port, own, images, args)
    for name, value, target, _ in rows:
        print(f"| {name} | {value} | {target} |")
    return int(not args.report and not all(is_met for *_, is_met in rows))


def _measure(
    port: int, engine: ThreadedEngine, images: list[bytes], args: argparse.Namespace
) -> list[tuple[str, str, str, bool]]:
    protocol, own = list[float](), list[float]()
    for _ in range(args.rounds + 1):  # the first one fills the caches
        protocol.append(asyncio.run(_tokens_per_second(port, images, args.tokens)))
        own.append(_own_tokens_per_second(engine, images, args.tokens))
    over, alone = statistics.median(protocol[1:]), statistics.median(own[1:])
    ratio = over / alone
    first = [asyncio.run(_first_text_ms(port, images[0])) for _ in range(11)][1:]
    own_first = [_own_first_text_ms(engine, images[0]) for _ in range(11)][1:]
    extra = statistics.median(first) - statistics.median(own_first)
    free = [asyncio.run(_milliseconds_until_free(port, images[0])) for _ in range(10)]
    rates = f"{over:.0f} of {alone:.0f} tokens/s, {ratio:.2f} ×"
    firsts = f"{statistics.median(first):.1f} ms, the engine's {statistics.median(own_first):.1f} ms, + {extra:.1f} ms"
    frees = f"{statistics.median(free):.0f} ms, at most {max(free):.0f} ms"
    return [
        (f"{args.streams} streams", rates, f"≥ {MIN_RATIO} ×", ratio >= MIN_RATIO),
        ("first text, one caller", firsts, f"+ {MAX_EXTRA_MS:.0f} ms", extra <= MAX_EXTRA_MS),
        ("a stream that is left, until its place is free", frees, f"{MAX_FREE_MS:.0f} ms", max(free) <= MAX_FREE_MS),
    ]


async def _tokens_per_second(port: int, images: list[bytes], tokens: int) -> float:
    bodies = [_body(image, tokens) for image in images]
    started = time.perf_counter()
    counts = await asyncio.gather(*(_read_stream(port, body) for body in bodies))
    return sum(counts) / (time.perf_counter() - started)


async def _read_stream(port: int, body: bytes) -> int:
    """The tokens of a streamed answer, by its usage."""
    reader, writer = await _post(port, body)
    tokens = 0
    while line := await reader.readline():
        if b'"usage": {' in line:
            tokens = json.loads(line.removeprefix(b"data: "))["usage"]["completion_tokens"]
        if line.startswith(b"data: [DONE]"):
            break
    else:
        raise SystemExit("A stream ended early.")
    writer.close()
    return tokens


async def _first_text_ms(port: int, image: bytes) -> float:
    started = time.perf_counter()
    reader, writer = await _post(port, _body(image, 8))
    await _wait_for_text(reader)
    milliseconds = 1e3 * (time.perf_counter() - started)
    await reader.read()
    writer.close()
    return milliseconds


async def _milliseconds_until_free(port: int, image: bytes) -> float:
    reader, writer = await _post(port, _body(image, 512))
    await _wait_for_text(reader)
    started = time.perf_counter()
    writer.transport.abort()
    await asyncio.sleep(0)  # the loop closes the connection
    while _health(port)["running"]:
        pass
    return 1e3 * (time.perf_counter() - started)


async def _post(port: int, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    writer.write(f"{head}content-type: application/json\r\nconnection: close\r\n\r\n".encode() + body)
    return reader, writer


async def _wait_for_text(reader: asyncio.StreamReader) -> None:
    while line := await reader.readline():
        if b'"content": "' in line and b'"content": ""' not in line:
            return
    raise SystemExit("A stream has no text.")


def _body(image: bytes, tokens: int) -> bytes:
    url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    parts = [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": url}}]
    body: dict[str, Any] = {"messages": [{"role": "user", "content": parts}], "max_tokens": tokens, "stream": True}
    return json.dumps({**body, "stream_options": {"include_usage": True}}).encode()


def _own_tokens_per_second(engine: ThreadedEngine, images: list[bytes], tokens: int) -> float:
    started = time.perf_counter()
    responses = [engine.submit(_request(image, tokens)) for image in images]
    for response in responses:
        response.wait(LONG_SECONDS)
    return sum(response.tokens for response in responses) / (time.perf_counter() - started)


def _own_first_text_ms(engine: ThreadedEngine, image: bytes) -> float:
    started = time.perf_counter()
    updates = iter(engine.submit(_request(image, 8)))
    next(updates)
    milliseconds = 1e3 * (time.perf_counter() - started)
    for _ in updates:
        pass
    return milliseconds


def _request(image: bytes, tokens: int) -> Request:
    return Request(UploadedImageFile(image), PROMPT, options=GenerationOptions(max_new_tokens=tokens))


def _write_model(folder: Path) -> Path:
    """The embedded model, whose answers end only at their limit."""
    shutil.copytree(ROOT / "assets" / "tiny", folder)
    for name in ("config.json", "generation_config.json"):
        text = (folder / name).read_text("utf-8").replace('"eos_token_id": 1', f'"eos_token_id": {NO_STOP}')
        (folder / name).write_text(text, "utf-8")
    return folder


@contextmanager
def _engine(folder: Path, args: argparse.Namespace) -> Iterator[ThreadedEngine]:
    """An engine in this process, ready."""
    spec = catalogue.find_model(str(folder), folders=True)
    engine = ThreadedEngine([spec], config=EngineConfig(max_batch_size=args.streams))
    engine.start()
    POOL.start()
    while engine.status().status != "ready":
        time.sleep(0.1)
    yield engine
    engine.stop()
    POOL.stop()


@contextmanager
def _serving(folder: Path, rows: int, root: Path, *, is_separate: bool) -> Iterator[int]:
    """The port of a server that is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    separate = {"BLIP_SPACE_PROCESS": str(int(is_separate)), "GRADIO_TEMP_DIR": str(root / "uploads")}
    command = [sys.executable, "-m", "blip_space", "serve", "--model", str(folder), "--port", str(port)]
    process = subprocess.Popen([*command, "--rows", str(rows)], cwd=ROOT, env=os.environ | separate)
    try:
        while _health(port).get("status") != "ready":
            if process.poll() is not None:
                raise SystemExit("The server did not start.")
            time.sleep(0.2)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _health(port: int) -> dict[str, Any]:
    try:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=20) as answer:
            return dict(json.load(answer))
    except OSError:
        return {}


if __name__ == "__main__":
    sys.exit(main())
