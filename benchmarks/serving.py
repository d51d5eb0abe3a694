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

import numpy as np
import psutil
import torch
import transformers
from PIL import Image
from transformers import StoppingCriteria, StoppingCriteriaList

from benchmarks import report, shapes
from blip_space import catalogue, images
from blip_space.inference.engine import Engine, Limits
from blip_space.inference.request import Request, composed
from blip_space.model import loader
from blip_space.model.blip2 import Blip2
from blip_space.model.cpu import hasten
from blip_space.model.device import cpu_has_bf16
from blip_space.options import GenerationOptions

QUESTIONS = ("What is in the picture?", "What colour is it?", "And what is beside it?", "How many are there?")
PATIENCE_SECONDS = 36_000.0

Made = TypeVar("Made")


@dataclass(frozen=True)
class Turn:
    """One question as it was asked, and what came of it."""

    request: Request
    ids: tuple[int, ...]
    seconds: float
    first_seconds: float


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


def _cards(given: argparse.Namespace, users: int) -> tuple[Blip2, list[list[Turn]]]:
    """The model as the loader would have made it, and what the cards' loop said on it before."""
    torch.set_num_threads(given.threads)
    network, tokenizer, model = opened(given.model, given.precision)
    _endless(network, model)
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


def converse(network: Any, tokenizer: Any, model: Blip2, user: int, turns: int, new_tokens: int) -> list[Turn]:
    """One conversation as the model cards have it: everything anew at every turn."""
    shown = picture(user)
    history: list[tuple[str, str]] = []
    held = []
    for turn in range(turns):
        asked = Request(shown, QUESTIONS[turn % len(QUESTIONS)], turns=tuple(history), options=_options(new_tokens))
        text = composed(model, prompt=asked.prompt, language="en", turns=asked.turns, max_new_tokens=new_tokens).text
        clock = _FirstToken()
        started = time.monotonic()
        inputs = processed(network, tokenizer, model, shown, text)
        ids = network.generate(
            **inputs,
            do_sample=False,
            min_new_tokens=new_tokens,
            max_new_tokens=new_tokens,
            stopping_criteria=StoppingCriteriaList([clock]),
        )[0].tolist()[-new_tokens:]
        seconds = time.monotonic() - started
        held.append(Turn(asked, tuple(ids), seconds, clock.first - started))
        history.append((asked.prompt, tokenizer.decode(ids, skip_special_tokens=True)))
    return held


def compare(model: Blip2, cards: Sequence[list[Turn]], new_tokens: int) -> Row:
    """The same conversations through the engine, each user asking anew as soon as he is answered."""
    model.turns.clear()
    engine = Engine([model.spec], load=lambda *_: model, limits=Limits(deadline_seconds=PATIENCE_SECONDS))
    heard: list[list[tuple[str, float, float]]] = [[] for _ in cards]
    engine.start()
    while engine.status().status != "ready":
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


def opened(name: str, precision: str) -> tuple[Any, Any, Blip2]:
    """The network, its tokenizer and ours, on the same weights."""
    if name in shapes.TEXTS:
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        network, tokenizer, model = shapes.build(name, dtype=dtype)
    else:
        spec = catalogue.find(name, folders=True)
        model = loader.load(spec, precision)
        network, tokenizer = model._network, transformers.AutoTokenizer.from_pretrained(spec.source)
    return network, tokenizer, model


def as_loaded(network: Any, model: Blip2) -> None:
    """Make of a shape what the loader would have made of it; for after the cards' loop, which has none of it."""
    if model.spec.name in shapes.TEXTS and model.precision.name == "bf16" and cpu_has_bf16():
        hasten(network)


def _endless(network: Any, model: Blip2) -> None:
    """Answers never end before they are as long as asked, and what the engine says is the tokens themselves."""
    for settings in (network.generation_config, network.language_model.generation_config):
        settings.eos_token_id = None
    model.decode = lambda ids: " ".join(map(str, ids))  # type: ignore[method-assign]


def processed(network: Any, tokenizer: Any, model: Blip2, shown: images.SafeImage, text: str) -> dict[str, Any]:
    """What a processor gives `generate`: pixels, and ids with the picture's places in front."""
    frame = model._frame
    pixels = frame.pixels([shown.pixels]).to(next(network.parameters()).dtype)
    ids = [network.config.image_token_index] * model.query_tokens + tokenizer(text)["input_ids"]
    prompt = torch.tensor([ids])
    return {"pixel_values": pixels, "input_ids": prompt, "attention_mask": torch.ones_like(prompt)}


def picture(user: int) -> images.SafeImage:
    """Another picture for every user."""
    dice = np.random.default_rng(user)
    coarse = Image.fromarray(dice.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return images.SafeImage(coarse.resize((224, 224)), digest=f"{user:064d}")


def _options(new_tokens: int) -> GenerationOptions:
    return GenerationOptions(max_new_tokens=new_tokens)


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


class _FirstToken(StoppingCriteria):  # type: ignore[misc]  # transformers has no types here
    """Notes when the first token came, and stops nothing."""

    def __init__(self) -> None:
        self.first = 0.0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ARG002  # its signature
        self.first = self.first or time.monotonic()
        return torch.zeros(len(input_ids), dtype=torch.bool)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--model", default="tiny", help=f"{', '.join(shapes.TEXTS)}, tiny, or a folder")
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
