"""`python -m benchmarks.serving --model opt-2.7b-shape`: conversations by the model cards' loop and by our engine.

Both get the same network, pictures and prompts in one run. The cards' loop (processor, then `generate`, for one
request after another) is timed once; its first conversations stand for fewer users, since it serves them in turn.
Prints a table; with --json and --plot it writes them too. In fp32 every token must agree, or the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch

from benchmarks import random_weights, report
from benchmarks.baseline import Turn, as_loaded, converse, make_endless, opened
from blip_space.engine.request import EngineConfig
from blip_space.loading.device import find_device
from blip_space.models.interface import VisionLanguageModel
from blip_space.serving.threaded import ThreadedEngine

PATIENCE_SECONDS = 36_000.0

Made = TypeVar("Made")


@dataclass(frozen=True)
class Row:
    """One line of the table. Ratios are ours to the cards'; `tokens_equal` is a share; the memory is what the process
    held more at its most than before the first question."""

    users: int
    turns: int
    new_tokens: int
    cards_tokens_per_second: float
    ours_tokens_per_second: float
    ratio_tokens_per_second: float
    first_token_ratio_later_turns: float
    first_turn_ratio: float
    tokens_equal: float
    memory_gigabytes: float


def main() -> int:
    """Run both, compare, and tell."""
    given = _arguments()
    users = [int(number) for number in given.users.split(",")]
    model, cards = apart(lambda: _cards(given, max(users)))
    rows = []
    for count in users:
        print(f"{given.model}: our engine, {count} at once", flush=True)
        rows.append(compare(model, cards[:count], given.new_tokens))
        print(json.dumps(asdict(rows[-1])), flush=True)
    told = {
        "machine": report.machine(),
        "model": given.model,
        "dtype": model.precision.name,
        "rows": list(map(asdict, rows)),
    }
    print(report.table(told))
    if given.json:
        given.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    if given.plot:
        report.plot(told, given.plot)
    return int(model.precision.name == "fp32" and any(row.tokens_equal < 1 for row in rows))


def _cards(given: argparse.Namespace, users: int) -> tuple[VisionLanguageModel, list[list[Turn]]]:
    """The model as the loader would have made it, and what the cards' loop said on it before."""
    torch.set_num_threads(given.threads)
    network, tokenizer, model = opened(given.model, given.precision)
    make_endless(network, model)
    print(f"{given.model}: the cards' loop, {users} conversations of {given.turns} turns", flush=True)
    cards = [converse(network, tokenizer, model, user, given.turns, given.new_tokens) for user in range(users)]
    as_loaded(network, model)
    return model, cards


def apart(work: Callable[[], Made]) -> Made:
    """What `work` makes, in a thread of its own that is gone afterwards.

    Each thread that computes has OpenMP threads of its own; while there are more of them than processors, all wait
    asleep rather than awake, which costs a tenth of a step or more. So whoever computes next must find none.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(work).result()


def compare(model: VisionLanguageModel, cards: Sequence[list[Turn]], new_tokens: int) -> Row:
    """The same conversations through the engine, each user asking anew as soon as he is answered."""
    config = EngineConfig(timeout_seconds=PATIENCE_SECONDS)
    engine = ThreadedEngine(
        [model.spec],
        load=lambda *_: model,
        load_preparation=lambda _: model.preparation,
        find_memory=lambda: (find_device(), None),  # the weights are there already
        config=config,
    )
    heard: list[list[tuple[str, float, float]]] = [[] for _ in cards]
    engine.start()
    while (state := engine.status()).status != "ready":
        if state.status == "failed":
            raise SystemExit(state.error)
        time.sleep(0.01)

    def visit(place: int) -> None:
        for turn in cards[place]:
            started, first, said = time.monotonic(), 0.0, ""
            for text in engine.submit(turn.request).updates():
                first, said = first or time.monotonic() - started, text
            heard[place].append((said, time.monotonic() - started, first))

    visitors = [threading.Thread(target=visit, args=(place,)) for place in range(len(cards))]
    with _Memory() as memory:
        started = time.monotonic()
        for visitor in visitors:
            visitor.start()
        for visitor in visitors:
            visitor.join()
        seconds = time.monotonic() - started
    engine.stop()
    return _row(cards, heard, seconds, new_tokens, memory.more_bytes)


def _row(cards: Sequence[list[Turn]], heard: Any, seconds: float, new_tokens: int, more_bytes: int) -> Row:
    turns = len(cards[0])
    tokens = len(cards) * turns * new_tokens
    theirs = sum(turn.seconds for talk in cards for turn in talk)
    pairs = [pair for talk, mine in zip(cards, heard, strict=True) for pair in zip(talk, mine, strict=True)]
    equal = [
        one == two for turn, (text, _, _) in pairs for one, two in zip(turn.ids, map(int, text.split()), strict=True)
    ]
    later = [(turn.first_seconds, mine[2]) for turn, mine in pairs if turn.request.turns]
    firsts = [(turn.seconds, mine[1]) for turn, mine in pairs if not turn.request.turns]
    return Row(
        users=len(cards),
        turns=turns,
        new_tokens=new_tokens,
        cards_tokens_per_second=round(tokens / theirs, 3),
        ours_tokens_per_second=round(tokens / seconds, 3),
        ratio_tokens_per_second=round(theirs / seconds, 2),
        first_token_ratio_later_turns=_ratio(later),
        first_turn_ratio=_ratio(firsts),
        tokens_equal=round(sum(equal) / len(equal), 4),
        memory_gigabytes=round(more_bytes / 1e9, 3),
    )


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Ours to theirs, by their sums."""
    theirs, ours = (sum(pair[side] for pair in pairs) for side in (0, 1))
    return round(ours / theirs, 3) if theirs else 0.0


class _Memory:
    """Watches how much more memory the process holds than when it began to watch."""

    def __enter__(self) -> _Memory:
        self._process, self._done, self.more_bytes = psutil.Process(), threading.Event(), 0
        self._before = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.more_bytes = max(self.more_bytes, self._process.memory_info().rss - self._before)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--model", default="tiny", help=f"{', '.join(random_weights.SHAPES)}, tiny, or a folder")
    parser.add_argument("--precision", default="auto", help="bf16 for the shapes, unless fp32 is asked for")
    parser.add_argument("--users", default="1,4,16")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
