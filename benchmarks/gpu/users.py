"""Users with conversations, the baseline's loop against the engine; and a folder of images."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import devices, folder, serving
from benchmarks.baseline import QUESTIONS, Turn, make_image, run_conversation
from benchmarks.gpu.setup import MT0, OPT, Row, Section, Setup, ids_of
from blip_space.engine.request import Request
from blip_space.serving.threaded import ThreadedEngine

OTHER_IMAGES = 10_000
"""Added to the number of a user, so that the images are new."""


def users(setup: Setup) -> Iterator[Row]:
    """Conversations with OPT-2.7B."""
    yield from _users(setup, OPT, setup.sizes.users)


def more_users(setup: Setup) -> Iterator[Row]:
    """Conversations with mT0-XL."""
    yield from _users(setup, MT0, (setup.sizes.users[0], setup.sizes.users[-1]))


def _users(setup: Setup, name: str, counts: Sequence[int]) -> Iterator[Row]:
    """The loop serves one user after another, so a few of them show its speed for any number."""
    hf_model, tokenizer, model = setup.model(name)
    sizes = setup.sizes
    run_conversation(hf_model, tokenizer, model, OTHER_IMAGES, 1, sizes.answer_tokens)  # to warm up
    loop = [
        run_conversation(hf_model, tokenizer, model, user, sizes.turns, sizes.answer_tokens)
        for user in range(sizes.loop_users)
    ]
    loop_rate = _tokens(setup, len(loop)) / sum(turn.seconds for turn in chain(*loop))
    for count in counts:
        with serving.running(serving.new_engine(model, setup.config(count))) as engine:
            warm_up(setup, engine, count)
            answers, seconds = converse(setup, engine, count)
            decoding = _decoding(engine)
        rate = _tokens(setup, count) / seconds
        first, later = _first_seconds(answers)
        loop_first, loop_later = (
            statistics.median(turn.first_seconds for turn in turns)
            for turns in ([own[0] for own in loop], [turn for own in loop for turn in own[1:]])
        )
        yield {
            "model": name,
            "users": count,
            "loop, tokens/s": loop_rate,
            "engine, tokens/s": rate,
            "ratio": rate / loop_rate,
            "loop's first token, ms": 1000 * loop_first,
            "engine's, ms": 1000 * first,
            "of a later turn, ms": 1000 * loop_later,
            "engine's later, ms": 1000 * later,
            "equal first answers": _equal(loop, answers),
            "decoding": decoding,
        }


def warm_up(setup: Setup, engine: ThreadedEngine, count: int) -> None:
    """The same conversations about other images; then leave the engine idle until it has captured its graphs."""
    converse(setup, engine, count, first_image=OTHER_IMAGES)
    before = ""
    while (now := _decoding(engine)) != before:
        before = now
        time.sleep(setup.settle_seconds)


def _decoding(engine: ThreadedEngine) -> str:
    return ", ".join(devices.decoding(model.core) for model in engine._models.loaded)


def converse(
    setup: Setup, engine: ThreadedEngine, count: int, *, first_image: int = 0
) -> tuple[list[list[serving.Answer]], float]:
    """The answers of all users at once, and the seconds of everything. Each has an own image and continues with what
    was answered."""
    options = setup.options(setup.sizes.answer_tokens)

    def one_user(user: int) -> list[serving.Answer]:
        image, turns, answers = make_image(first_image + user), list[tuple[str, str]](), []
        for turn in range(setup.sizes.turns):
            question = QUESTIONS[turn % len(QUESTIONS)]
            answers.append(serving.ask(engine, Request(image, question, turns=tuple(turns), options=options)))
            turns.append((question, answers[-1][0]))
        return answers

    started = time.monotonic()
    return serving.run_users(one_user, count), time.monotonic() - started


def _tokens(setup: Setup, count: int) -> int:
    return count * setup.sizes.turns * setup.sizes.answer_tokens


def _first_seconds(answers: list[list[serving.Answer]]) -> tuple[float, float]:
    """The median seconds until the first token of a first and of a later turn."""
    firsts = [[first for _, _, first in own] for own in answers]
    return statistics.median(own[0] for own in firsts), statistics.median(chain(*(own[1:] for own in firsts)))


def _equal(loop: list[list[Turn]], answers: list[list[serving.Answer]]) -> str:
    """How many tokens of the first answers are the loop's; later prompts depend on what was answered before. In bf16 a
    near tie that is resolved differently changes all that follow."""
    pairs = [
        pair
        for turns, own in zip(loop, answers, strict=False)
        for pair in zip(turns[0].ids, ids_of(own[0][0]), strict=True)
    ]
    return f"{sum(expected == token for expected, token in pairs)} of {len(pairs)} tokens"


def captions(setup: Setup) -> Iterator[Row]:
    """A folder of JPEGs of 640 x 480 pixels."""
    hf_model, tokenizer, model = setup.model(OPT)
    sizes = setup.sizes
    kinds: dict[str, dict[str, Any]] = {"greedy": {}, "5 beams": {"quality": "best", "num_beams": 5}}
    with tempfile.TemporaryDirectory() as temporary:
        images = draw_jpegs(Path(temporary) / "images", sizes.files)
        files = sorted(file.name for file in images.iterdir())
        for name, changes in kinds.items():
            options = setup.options(sizes.caption_tokens, **changes)
            loop = folder.run_baseline(hf_model, tokenizer, model, images, files[: sizes.loop_files], options)
            outputs = (Path(temporary) / f"{name} {run}.jsonl" for run in ("first", "measured"))
            folder.run_job(model, images, files[: sizes.files // 4], options, next(outputs))  # to warm up
            own = folder.run_job(model, images, files, options, next(outputs))
            yield {
                "decoding": name,
                "images": len(files),
                "loop, images/s": loop,
                "folder, images/s": own,
                "ratio": own / loop,
            }


def draw_jpegs(target: Path, number: int) -> Path:
    """JPEG files of 640 x 480 pixels, all different."""
    target.mkdir(parents=True)

    def draw(index: int) -> None:
        coarse = np.random.default_rng(index).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        image.save(target / f"{index:06}.jpg", quality=85)

    with ThreadPoolExecutor() as threads:
        list(threads.map(draw, range(number)))
    return target


SECTIONS = (
    Section("users", "Users of OPT-2.7B, the engine against the loop", users),
    Section("folder", "A folder of JPEGs of 640 x 480, OPT-2.7B", captions),
    Section("more-users", "Users of mT0-XL, the engine against the loop", more_users),
)
