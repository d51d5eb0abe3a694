"""How long `/healthz` takes, asked all the time by a process that the benchmark's own work cannot delay."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

import httpx

INTERVAL_SECONDS = 0.02
ADDRESS = "127.0.3.1"


@contextmanager
def pings(url: str) -> Iterator[list[float]]:
    """The seconds of each response in a context; the list is filled when the context ends."""
    context = multiprocessing.get_context("spawn")
    seconds, done, started = list[float](), context.Event(), context.Event()
    ours, theirs = context.Pipe()
    process = context.Process(target=_ping, args=(url, done, started, theirs))
    process.start()
    started.wait(30)
    try:
        yield seconds
    finally:
        done.set()
        seconds.extend(ours.recv())
        process.join()


def _ping(url: str, done: Event, started: Event, results: Connection) -> None:
    seconds = []
    transport = httpx.HTTPTransport(local_address=ADDRESS)
    with httpx.Client(base_url=url, timeout=120, transport=transport, trust_env=False) as web:
        while not done.is_set():
            begun = time.perf_counter()
            web.get("/healthz").raise_for_status()
            seconds.append(time.perf_counter() - begun)
            started.set()
            time.sleep(INTERVAL_SECONDS)
    results.send(seconds)
