"""Uploaded images are decoded in processes of their own, of which one caller never has all.

The decoder of these tests holds images of one width until they are released, or it is ended; the images are ordinary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from blip_space import images
from blip_space.images import uploaded
from blip_space.images.decoder_pool import DecoderPool
from tests.apps.fake_engine import FakeEngine
from tests.images.image_bytes import disc, encoded

HOLDING = """
import sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from blip_space.images import decoder_main
decode, released = decoder_main.decode_pixels, Path({released!r})
def decode_or_hold(data):
    image = decode(data)
    while image.width == 31 and not released.exists():
        threading.Event().wait(0.02)
    return image
decoder_main.decode_pixels = decode_or_hold
decoder_main.main()
"""
HELD_WIDTH, SECONDS = 31, 120.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, for at most 20 s."""
    for _ in range(2_000):
        if condition():
            return
        Event().wait(0.01)
    pytest.fail("it did not come to that")


def refuse(_: bytes) -> None:
    """An ordinary error, which reaches the client as one."""
    raise RuntimeError("the server decoded an upload itself")


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """The file that lets the decoder go on with the images that it holds."""
    return tmp_path / "released"


@pytest.fixture
def pool(released: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DecoderPool]:
    pool = DecoderPool(1, seconds=SECONDS, program=HOLDING.format(released=str(released)))
    monkeypatch.setattr(uploaded, "POOL", pool)
    monkeypatch.setattr(images, "decode_pixels", refuse)
    yield pool
    pool.stop()


@pytest.fixture
def threads(pool: DecoderPool, released: Path) -> Iterator[ThreadPoolExecutor]:  # noqa: ARG001  # ended before the pool
    with ThreadPoolExecutor(12) as threads:
        yield threads
        released.touch()


class Caller:
    """One session that asks about images, each of another height, so that none is known already."""

    def __init__(self, url: str, folder: Path, threads: ThreadPoolExecutor) -> None:
        self._client, self._folder, self._threads = Client(url, verbose=False), folder, threads
        self._count = 0

    def ask(self, width: int) -> Future[Any]:
        """Ask about another image of this width; the prompt is the width."""
        self._count += 1
        file = self._folder / f"{id(self)} {self._count}.png"
        file.write_bytes(encoded(disc((width, 20 + self._count)), "PNG"))
        return self._threads.submit(self._client.predict, handle_file(file), str(width), api_name="/chat")


def test_one_callers_images_take_one_process(
    url: str, engine: FakeEngine, pool: DecoderPool, threads: ThreadPoolExecutor, tmp_path: Path, released: Path
) -> None:
    engine.reset()
    greedy, quiet = Caller(url, tmp_path, threads), Caller(url, tmp_path, threads)
    held = [greedy.ask(HELD_WIDTH) for _ in range(5)]
    wait_until(lambda: pool.queue.waiting == 4)
    assert quiet.ask(40).result(60) == "40"
    assert [request.prompt for request in engine.requests] == ["40"]
    assert pool.queue.waiting == 4
    released.touch()
    assert {answer.result(60) for answer in held} == {"31"}


def test_an_image_that_takes_too_long_is_refused_and_its_process_replaced(
    url: str, pool: DecoderPool, threads: ThreadPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_seconds", 1.0)
    caller = Caller(url, tmp_path, threads)
    with pytest.raises(AppError, match="took more than 10 s to decode, so that was stopped"):
        caller.ask(HELD_WIDTH).result(60)
    monkeypatch.setattr(pool, "_seconds", SECONDS)
    assert caller.ask(40).result(60) == "40"


def test_the_images_of_a_batch_are_decoded_in_a_process(
    url: str, pool: DecoderPool, threads: ThreadPoolExecutor, tmp_path: Path
) -> None:
    files = [tmp_path / "one.png", tmp_path / "two.png"]
    for number, file in enumerate(files):
        file.write_bytes(encoded(disc((50, 50 + number)), "PNG"))
    client = Client(url, verbose=False)
    update = threads.submit(client.predict, [handle_file(file) for file in files], "seen", api_name="/batch").result(60)
    assert [record["caption"] for record in update["records"]] == ["seen", "seen"]
    assert pool.pids
