"""The next tokens of many sequences are each chosen by the rules of `generate`, whatever is beside them."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TopPLogitsWarper,
)

from blip_space.engine import sampling
from blip_space.engine.sampling import Sampler, uniform
from blip_space.options import GenerationOptions

STOP, START = frozenset({3, 5}), (0,)
GREEDY = GenerationOptions()
Asked = tuple[GenerationOptions, Sequence[int]]


def make_logits(rows: int, vocabulary: int, *, spread: float = 3.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread


def sample(logits: torch.Tensor, requests: Sequence[Asked]) -> list[int | None]:
    return Sampler(STOP).sample(logits.clone(), [(options, written, START) for options, written in requests])


def draw(row: torch.Tensor, seeds: int, *, position: int = 1, top_p: float = 1.0) -> list[int | None]:
    """What each seed draws from these logits of shape (vocabulary,)."""
    written = [9] * position
    requests = [(GenerationOptions(temperature=1.0, top_p=top_p, seed=seed), written) for seed in range(seeds)]
    return sample(row.repeat(seeds, 1), requests)


def mixed_requests(count: int) -> list[Asked]:
    choose = random.Random(4)
    return [
        (
            GenerationOptions(
                temperature=choose.choice((0.0, 0.0, 0.7, 1.0, 1.5)),
                top_p=choose.choice((1.0, 0.9, 0.3)),
                repetition_penalty=choose.choice((1.0, 1.3)),
                seed=choose.randint(0, 9),
            ),
            [choose.randrange(9, 400) for _ in range(choose.randint(0, 30))],
        )
        for _ in range(count)
    ]


def test_without_rules_it_is_the_first_of_the_highest() -> None:
    logits = make_logits(16, 1_000)
    logits[4, [700, 90, 91]] = 50.0
    chosen = sample(logits, [(GREEDY, [8])] * 16)
    assert chosen == logits.argmax(dim=-1).tolist()
    assert chosen[4] == 90


@pytest.mark.parametrize("penalty", [1.0, 1.2, 2.0])
@pytest.mark.parametrize("written", [[], [7], [11, 7, 11, 30]])
def test_greedy_tokens_follow_generates_rules(penalty: float, written: list[int]) -> None:
    logits = make_logits(40, 60)
    logits[:20, [0, 7]] += 6.0  # the start token and one that may have been written
    processors = LogitsProcessorList([MinNewTokensLengthLogitsProcessor(len(START), 1, sorted(STOP))])
    if penalty != 1.0:
        processors.insert(0, RepetitionPenaltyLogitsProcessor(penalty))
    expected = processors(torch.tensor([[*START, *written]] * 40), logits.clone()).argmax(dim=-1).tolist()
    assert sample(logits, [(GenerationOptions(repetition_penalty=penalty), written)] * 40) == expected


def test_first_token_is_no_stop_token_and_a_later_one_may_be() -> None:
    logits = make_logits(2, 30)
    logits[:, 5] = 40.0
    for options in (GREEDY, GenerationOptions(temperature=1.0)):
        first, later = sample(logits, [(options, []), (options, [8])])
        assert first not in STOP
        assert later == 5


@pytest.mark.parametrize("vocabulary", [500, 30_000])
@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0])
def test_a_row_is_chosen_alike_alone_and_at_any_index_of_any_batch(vocabulary: int, spread: float) -> None:
    logits, requests = make_logits(24, vocabulary, spread=spread), mixed_requests(24)
    together = sample(logits, requests)
    assert [sample(logits[row : row + 1], [requests[row]])[0] for row in range(24)] == together
    order = random.Random(5).sample(range(24), 24)
    assert sample(logits[order], [requests[row] for row in order]) == [together[row] for row in order]


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.99])
def test_nucleus_is_generates(top_p: float) -> None:
    row = make_logits(1, 40, spread=1.5)[0]
    kept = TopPLogitsWarper(top_p)(torch.tensor([[0]]), row[None])[0]
    likely = torch.nonzero(kept.softmax(dim=-1) > 0.003)[:, 0].tolist()
    drawn = set(draw(row, 4_000, top_p=top_p))
    assert set(likely) <= drawn <= set(torch.nonzero(kept.isfinite())[:, 0].tolist())


@pytest.mark.parametrize("vocabulary", [300, 3_000, 60_000])
def test_nucleus_of_equal_tokens_is_the_first_of_them(vocabulary: int) -> None:
    drawn = [token or 0 for token in draw(torch.zeros(vocabulary), 200, top_p=0.5)]
    assert max(drawn) <= vocabulary // 2
    assert max(drawn) > vocabulary * 0.45
    assert min(drawn) < vocabulary * 0.05


def test_nucleus_reaches_from_one_likely_token_into_many_unlikely_ones() -> None:
    row = torch.zeros(40_001)
    row[7] = math.log(40_000)  # half of the probability
    drawn = draw(row, 600, top_p=0.75)
    assert 360 < drawn.count(7) < 440
    assert len(set(drawn)) > 150
    assert max(token or 0 for token in drawn) <= 20_001


@pytest.mark.parametrize(("position", "top_p"), [(1, 1.0), (2, 1.0), (70, 1.0), (1, 0.8)])
def test_draws_are_distributed_as_the_probabilities(position: int, top_p: float) -> None:
    row, seeds = make_logits(1, 12, spread=1.0)[0], 6_000
    kept = TopPLogitsWarper(top_p)(torch.tensor([[0]]), row[None])[0] if top_p < 1 else row
    expected = (kept.softmax(dim=-1) * seeds).tolist()
    counts = Counter(draw(row, seeds, position=position, top_p=top_p))
    distance = sum((counts[token] - count) ** 2 / count for token, count in enumerate(expected) if count)
    assert distance < 31.3  # the 0.999 quantile of chi-square for 11 degrees of freedom
    assert sum(counts.values()) == sum(counts[token] for token, count in enumerate(expected) if count)


def test_draws_at_different_positions_are_independent() -> None:
    row, seeds = torch.zeros(4), 8_000
    pairs = Counter(zip(draw(row, seeds, position=1), draw(row, seeds, position=2), strict=True))
    assert sum((pairs[one, two] - 500) ** 2 / 500 for one in range(4) for two in range(4)) < 37.7  # 15 degrees


def test_each_seed_draws_its_own_tokens_and_the_same_again() -> None:
    seeds = [0, 1, 2, 3, 5, 2**31, 2**32 - 1]
    written = [
        tuple(sample(torch.zeros(1, 1_000), [(GenerationOptions(temperature=1.0, seed=seed), [9] * length)])[0]
              for length in range(8))
        for seed in seeds
    ]  # fmt: skip
    assert len(set(written)) == len(seeds)
    assert all(len(set(tokens)) > 4 for tokens in written)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert draw(torch.zeros(1_000), 3) == draw(torch.zeros(1_000), 3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("seed", [0, 2, 2**32 - 1])
def test_random_numbers_are_numpys_philox_stream(seed: int) -> None:
    stream = np.random.Generator(np.random.Philox(key=seed)).random(200)
    assert [uniform(seed, position) for position in range(200)] == stream.tolist()


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_row_that_is_not_finite_has_no_token_and_disturbs_no_other(broken: float) -> None:
    logits, requests = make_logits(24, 400), mixed_requests(24)
    before = sample(logits, requests)
    assert None not in before
    for row in range(0, 24, 2):
        logits[row, 399] = broken
    after = sample(logits, requests)
    assert after[1::2] == before[1::2]
    assert after[::2] == [None] * 12
    assert sample(torch.full((2, 9), -torch.inf), [(GREEDY, [8]), (GenerationOptions(temperature=1.0), [8])]) == [
        None,
        None,
    ]


def test_narrow_nucleus_and_cold_draws_are_greedy() -> None:
    logits = make_logits(16, 5_000)
    greedy = sample(logits, [(GREEDY, [8])] * 16)
    narrow = GenerationOptions(temperature=1.0, top_p=0.01)
    cold = GenerationOptions(temperature=0.01)
    assert sample(logits, [(narrow, [8])] * 16) == sample(logits, [(cold, [8])] * 16) == greedy


def test_a_gpu_chooses_as_a_processor_does() -> None:
    """By other calls, which bring less to the host; these run anywhere."""
    logits = make_logits(8, 50)
    logits[0, 0] = 99.0
    logits[1, 7], logits[2], logits[3, 4] = torch.nan, -torch.inf, torch.inf
    logits[4, 20], logits[4, 30] = 99.0, 99.0
    chosen = sampling._argmax(logits)
    assert chosen[:5] == [0, None, None, None, 20]
    assert sampling._argmax_in_one_copy(logits) == chosen
    probabilities = make_logits(8, 50).softmax(dim=-1)
    for rows in ([3], [1, 4, 6], range(8)):
        for least in (0.0, 0.05, 2.0):
            ways = (sampling._candidates, sampling._candidates_in_few_copies)
            one, other = (way(probabilities, rows, least) for way in ways)
            assert [(found.tolist(), ids.tolist()) for found, ids in one] == [
                (found.tolist(), ids.tolist()) for found, ids in other
            ]
