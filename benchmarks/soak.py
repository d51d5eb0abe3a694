"""`python -m benchmarks.soak --minutes 10`: the engine under visitors who come and leave, its memory watched.

Prints a line every half minute: answers, cancelled ones, failures, and the process's memory, which should stay flat.
"""

from __future__ import annotations

import argparse
import random
import threading
import time

import psutil

from benchmarks.baseline import QUESTIONS, picture
from blip_space import catalogue
from blip_space.engine.request import Request
from blip_space.errors import UserError
from blip_space.options import GenerationOptions
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.threaded import ThreadedEngine

REPORT_SECONDS = 30.0


class Visitors:
    """So many visitors, each asking again and again until told to stop."""

    def __init__(self, engine: EngineProtocol, count: int) -> None:
        self.answered = self.cancelled = self.failed = 0
        self._engine = engine
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._visit, args=(number,)) for number in range(count)]

    def start(self) -> None:
        """Let them in."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let them finish."""
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _visit(self, number: int) -> None:
        draw = random.Random(number)
        while not self._done.is_set():
            self._ask(draw)

    def _ask(self, draw: random.Random) -> None:
        options = GenerationOptions(
            max_new_tokens=draw.choice((4, 16, 64)),
            temperature=draw.choice((0.0, 0.8)),
            quality=draw.choice(("stream",) * 9 + ("best",)),
            seed=draw.randint(0, 9),
        )
        turns = tuple((question, "two") for question in draw.sample(QUESTIONS, draw.randint(0, 2)))
        leaves_after = draw.choice((None, None, None, 1))
        try:
            answer = self._engine.submit(
                Request(picture(draw.randint(0, 400)), draw.choice(QUESTIONS), turns=turns, options=options)
            )
            for seen, _ in enumerate(answer.updates()):
                if seen == leaves_after:
                    break
        except UserError:
            self._count("failed")
            return
        self._count("answered" if leaves_after is None else "cancelled")

    def _count(self, name: str) -> None:
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)


def main() -> None:
    """Run for so long, and tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--visitors", type=int, default=24)
    parser.add_argument("--model", default="tiny")
    given = parser.parse_args()
    engine = ThreadedEngine([catalogue.find_model(given.model, folders=True)])
    engine.start()
    while engine.status().status == "loading":
        time.sleep(0.1)
    visitors = Visitors(engine, given.visitors)
    visitors.start()
    started, process = time.monotonic(), psutil.Process()
    while (spent := time.monotonic() - started) < 60 * given.minutes:
        time.sleep(min(REPORT_SECONDS, 60 * given.minutes - spent))
        print(
            f"{(time.monotonic() - started) / 60:.1f} min: {visitors.answered} answered, "
            f"{visitors.cancelled} left early, {visitors.failed} failed, {process.memory_info().rss / 1e6:.0f} MB, "
            f"{engine.status().metrics}",
            flush=True,
        )
    visitors.stop()
    engine.stop()


if __name__ == "__main__":
    main()
