"""Rows that are written together are the rows written alone, token for token, whoever comes and goes beside them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image

from blip_space.model.blip2 import Blip2
from blip_space.model.cache import Cache
from blip_space.model.turns import TurnCache
from blip_space.model.writing import Parked, Prompt, Row
from blip_space.options import GenerationOptions

REQUESTS = 200
WORDS = ("Question:", "how", "many", "cats", "are", "there?", "Answer:", "two", "blau", "赤い丸", "a photo of", "دائرة")


@pytest.fixture(scope="module")
def asked(model: Blip2, pictures: list[Image.Image]) -> list[Prompt]:
    """Prompts of every length with options of every kind."""
    prefixes, draw = model.encode(pictures), random.Random(7)
    return [
        model.prompt(
            prefixes[number % 2 : number % 2 + 1],
            " ".join(draw.choices(WORDS, k=draw.randint(1, 9))),
            GenerationOptions(
                max_new_tokens=draw.randint(1, 14),
                temperature=draw.choice((0.0, 0.0, 0.7, 1.5)),
                top_p=draw.choice((1.0, 0.8)),
                repetition_penalty=draw.choice((1.0, 1.0, 1.3)),
                seed=draw.randint(0, 5),
            ),
        )
        for number in range(REQUESTS)
    ]


@pytest.fixture(scope="module")
def alone(model: Blip2, asked: Sequence[Prompt]) -> list[list[int]]:
    """What each prompt is answered without any neighbour."""
    return [list(model.stream(prompt)) for prompt in asked]


def test_rows_that_come_and_go_are_the_rows_alone(
    model: Blip2, asked: Sequence[Prompt], alone: Sequence[list[int]]
) -> None:
    writing, draw = model.writing(), random.Random(8)
    waiting, left = list(enumerate(asked)), set[int]()
    together: list[tuple[int, Row]] = []
    parked: list[Parked] = []
    while waiting or writing.rows or parked:
        if waiting and (not writing.rows or draw.random() < 0.4):
            newcomers = [waiting.pop(0) for _ in range(min(len(waiting), draw.randint(1, 5)))]
            rows = writing.join([prompt for _, prompt in newcomers])
            together += [(number, row) for (number, _), row in zip(newcomers, rows, strict=True)]
        if parked and draw.random() < 0.3:
            writing.resume(parked.pop(draw.randrange(len(parked))))
        going = [row for row in writing.rows if not row.ended]
        if going and draw.random() < 0.2:
            parked.append(writing.park(draw.choice(going)))
        if writing.rows and draw.random() < 0.05:
            gone = draw.choice(writing.rows)
            left.add(id(gone))
            writing.leave([gone])
        writing.step()
    assert len(together) == REQUESTS
    for number, row in together:
        whole = alone[number]
        assert row.ids == whole[: len(row.ids)] if id(row) in left else row.ids == whole


def test_a_batch_keeps_no_more_than_its_rows_need(model: Blip2, asked: Sequence[Prompt]) -> None:
    writing = model.writing()
    writing.join(asked[:1])
    one = writing.nbytes
    rows = writing.join(asked[1:9])
    assert writing.nbytes > one
    writing.leave(rows)
    assert writing.nbytes <= 2 * one
    writing.leave(writing.rows)
    assert writing.nbytes == 0


def test_who_comes_takes_the_place_of_who_left(model: Blip2, asked: Sequence[Prompt]) -> None:
    writing = model.writing()
    rows = writing.join([asked[0]] * 4)
    full = writing.nbytes
    for place in (0, 3, 1):
        writing.leave([rows[place]])
        (rows[place],) = writing.join([asked[0]])
        assert writing.nbytes == full


def test_nothing_is_left_of_who_left(model: Blip2, asked: Sequence[Prompt], alone: Sequence[list[int]]) -> None:
    """Not even numbers that are none, which an answer that overflowed leaves behind."""
    writing = model.writing()
    gone, stays = writing.join([max(asked, key=lambda prompt: len(prompt.ids)), asked[0]])
    with torch.inference_mode():
        for cache in vars(writing._batch).values():
            for layer in cache.own.layers if isinstance(cache, Cache) else ():
                layer.keys[writing.rows.index(gone)] = layer.values[writing.rows.index(gone)] = torch.nan
    writing.leave([gone])
    (comes,) = writing.join([asked[2]])
    while writing.rows:
        writing.step()
    assert (stays.ids, comes.ids) == (alone[0], alone[2])


def test_nobody_joins_when_a_later_pass_fails(
    model: Blip2, asked: Sequence[Prompt], alone: Sequence[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, network = model.writing(), model._network.language_model
    long = replace(asked[1], ids=asked[1].ids * 9)
    read, calls = network.forward, iter([True, False])

    def forward(*arguments: Any, **named: Any) -> Any:
        if next(calls):
            return read(*arguments, **named)
        raise RuntimeError("no memory for the long one")

    with monkeypatch.context() as broken:
        broken.setattr(network, "forward", forward)
        with pytest.raises(RuntimeError, match="no memory"):
            writing.join([asked[0], long])
    assert not writing.rows
    (row,) = writing.join([asked[0]])
    while writing.rows:
        writing.step()
    assert row.ids == alone[0]


def test_a_fault_in_choosing_ends_its_own_row(
    model: Blip2, asked: Sequence[Prompt], alone: Sequence[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = model.writing()
    good, bad = writing.join([asked[0], asked[1]])

    def fail(_: torch.Tensor, *, likeliest: int) -> int:
        raise RuntimeError(f"a bug at {likeliest}")

    bad.ended = False
    monkeypatch.setattr(bad.choice, "choose", fail)
    while writing.rows:
        writing.step()
    assert good.ids == alone[0]
    assert isinstance(bad.fault, RuntimeError)


def test_a_later_turn_reads_only_what_is_new(model: Blip2, pictures: list[Image.Image]) -> None:
    """And says what it would have said without the memory, beside neighbours with and without one."""
    prefixes, options = model.encode(pictures), GenerationOptions(max_new_tokens=6)
    first = "Question: how many cats are there? Answer:"
    before = model.turns.hits
    writing = model.writing()
    (row,) = writing.join([model.prompt(prefixes[:1], first, options, picture="one")])
    while writing.rows:
        writing.step()
    said = model.decode(row.ids)
    later = [
        (0, "one", f"{first} {said}. Question: a blue dog? Answer:"),
        (0, "one", f"{first} something else entirely. Question: and two? Answer:"),
        (1, "other", f"{first} {said}. Question: a blue dog? Answer:"),
        (0, "one", "Caption the image in German. Ein roter"),
    ]
    follow = [
        model.prompt(prefixes[place : place + 1], text, options, picture=name, goes_on=True)
        for place, name, text in later
    ]
    whole = model.query_tokens + model.count_tokens(later[0][2])
    assert model.unread(later[0][2], picture="a stranger's") == whole
    assert (model.unread(later[0][2], picture="one") < whole - model.query_tokens) == model.spec.decoder_only
    alone = [list(model.stream(replace(prompt, goes_on=False))) for prompt in follow]
    rows = writing.join(follow)
    while writing.rows:
        writing.step()
    assert [one.ids for one in rows] == alone
    # two of the four, or three where every text begins with the same token
    assert model.turns.hits - before in ((2, 3) if model.spec.decoder_only else (0,))


def test_the_memory_of_turns_is_bounded() -> None:
    turns = TurnCache(max_bytes=4_000)
    for number in range(20):
        past = [(torch.zeros(2, 5, 4), torch.zeros(2, 5, 4))]
        turns.put(f"picture {number}", [number] * 3, past)
    assert turns.bytes <= 4_000
    assert turns.longest("picture 0", [0, 0, 0, 1], query_tokens=2) is None
    kept = turns.longest("picture 19", [19, 19, 7], query_tokens=2)
    assert kept is not None
    assert kept[0][0].shape == (2, 4, 4)


def test_a_conversation_is_kept_once_however_many_turns_it_has() -> None:
    turns = TurnCache(max_bytes=1_000_000)
    for ids in ([7, 8], [7, 8, 9, 10], [7, 8, 9, 10, 11], [7, 1]):
        turns.put("one", ids, [(torch.zeros(2, 2 + len(ids), 4), torch.zeros(2, 2 + len(ids), 4))])
    turns.put("other", [7, 8], [(torch.zeros(2, 4, 4), torch.zeros(2, 4, 4))])
    assert len(turns) == 3  # the longest, another ending, and another picture
    kept = turns.longest("one", [7, 8, 9, 10, 11, 12], query_tokens=2)
    assert kept is not None
    assert kept[0][0].shape == (2, 7, 4)
