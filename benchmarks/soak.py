"""`python -m benchmarks.soak --minutes 10`: many clients at once, some of which cancel, for a long time.

Prints a line every half minute: answered, cancelled and failed requests, and the process's memory, which must not grow.
"""

from __future__ import annotations

import argparse
import random
import threading
import time

import psutil

from benchmarks.baseline import QUESTIONS, make_image
from blip_space import catalogue
from blip_space.engine.request import Request
from blip_space.errors import UserError
from blip_space.options import GenerationOptions
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.threaded import ThreadedEngine

REPORT_SECONDS = 30.0


class Clients:
    """Threads that send requests one after another until they are stopped."""

    def __init__(self, engine: EngineProtocol, count: int) -> None:
        self.answered = self.cancelled = self.failed = 0
        self._engine = engine
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def start(self) -> None:
        """Start all threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait until the current requests are done."""
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        rng = random.Random(number)
        while not self._done.is_set():
            self._ask(rng)

    def _ask(self, rng: random.Random) -> None:
        options = GenerationOptions(
            max_new_tokens=rng.choice((4, 16, 64)),
            temperature=rng.choice((0.0, 0.8)),
            quality=rng.choice(("stream",) * 9 + ("best",)),
            seed=rng.randint(0, 9),
        )
        turns = tuple((question, "two") for question in rng.sample(QUESTIONS, rng.randint(0, 2)))
        cancel_after = rng.choice((None, None, None, 1))
        try:
            response = self._engine.submit(
                Request(make_image(rng.randint(0, 400)), rng.choice(QUESTIONS), turns=turns, options=options)
            )
            for index, _ in enumerate(response.updates()):
                if index == cancel_after:
                    break
        except UserError:
            self._count("failed")
            return
        self._count("answered" if cancel_after is None else "cancelled")

    def _count(self, name: str) -> None:
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)


def main() -> None:
    """Run for the given time, and print the counts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--model", default="tiny")
    args = parser.parse_args()
    engine = ThreadedEngine([catalogue.find_model(args.model, folders=True)])
    engine.start()
    while engine.status().status == "loading":
        time.sleep(0.1)
    clients = Clients(engine, args.clients)
    clients.start()
    started, process = time.monotonic(), psutil.Process()
    while (elapsed := time.monotonic() - started) < 60 * args.minutes:
        time.sleep(min(REPORT_SECONDS, 60 * args.minutes - elapsed))
        print(
            f"{(time.monotonic() - started) / 60:.1f} min: {clients.answered} answered, "
            f"{clients.cancelled} cancelled, {clients.failed} failed, {process.memory_info().rss / 1e6:.0f} MB, "
            f"{engine.status().metrics}",
            flush=True,
        )
    clients.stop()
    engine.stop()


if __name__ == "__main__":
    main()
