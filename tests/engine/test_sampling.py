"""The next token of each sequence follows the rules of `generate`, whatever other sequences there are."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

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
from blip_space.engine.device_sampling import UNDECIDED
from blip_space.engine.sampling import Sampler, uniform
from blip_space.options import GenerationOptions

pytestmark = pytest.mark.usefixtures("device")

STOP, START = frozenset({3, 5}), (0,)
GREEDY = GenerationOptions()
Request = tuple[GenerationOptions, Sequence[int]]


@pytest.fixture(params=(True, False), ids=("host", "device"))
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are chosen by numpy, and as on a GPU."""
    monkeypatch.setattr(sampling, "computes_on_host", lambda _: request.param)


def make_logits(rows: int, vocabulary: int, *, spread: float = 3.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread


def sample(logits: torch.Tensor, requests: Sequence[Request]) -> list[int | None]:
    return Sampler(STOP).sample(logits.clone(), [(options, ids, START) for options, ids in requests])


def samples_of(row: torch.Tensor, seeds: int, *, position: int = 1, top_p: float = 1.0) -> list[int | None]:
    """The token that each seed samples from these logits (vocabulary,)."""
    ids = [9] * position
    requests = [(GenerationOptions(temperature=1.0, top_p=top_p, seed=seed), ids) for seed in range(seeds)]
    return sample(row.repeat(seeds, 1), requests)


def mixed_requests(count: int) -> list[Request]:
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


def test_greedy_tokens_are_the_first_of_the_highest_logits() -> None:
    logits = make_logits(16, 1_000)
    logits[4, [700, 90, 91]] = 50.0
    tokens = sample(logits, [(GREEDY, [8])] * 16)
    assert tokens == logits.argmax(dim=-1).tolist()
    assert tokens[4] == 90


@pytest.mark.parametrize("penalty", [1.0, 1.2, 2.0])
@pytest.mark.parametrize("ids", [[], [7], [11, 7, 11, 30]])
def test_greedy_tokens_are_those_of_generate(penalty: float, ids: list[int]) -> None:
    logits = make_logits(40, 60)
    logits[:20, [0, 7]] += 6.0  # the start token, and one that may be among the new ones
    processors = LogitsProcessorList([MinNewTokensLengthLogitsProcessor(len(START), 1, sorted(STOP))])
    if penalty != 1.0:
        processors.insert(0, RepetitionPenaltyLogitsProcessor(penalty))
    expected = processors(torch.tensor([[*START, *ids]] * 40), logits.clone()).argmax(dim=-1).tolist()
    assert sample(logits, [(GenerationOptions(repetition_penalty=penalty), ids)] * 40) == expected


def test_the_first_token_is_no_stop_token_and_a_later_one_may_be() -> None:
    logits = make_logits(2, 30)
    logits[:, 5] = 40.0
    for options in (GREEDY, GenerationOptions(temperature=1.0)):
        first, later = sample(logits, [(options, []), (options, [8])])
        assert first not in STOP
        assert later == 5


@pytest.mark.parametrize("vocabulary", [500, 30_000])
@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0])
def test_a_row_has_the_same_token_alone_and_at_any_index_of_any_batch(vocabulary: int, spread: float) -> None:
    logits, requests = make_logits(24, vocabulary, spread=spread), mixed_requests(24)
    together = sample(logits, requests)
    assert [sample(logits[row : row + 1], [requests[row]])[0] for row in range(24)] == together
    order = random.Random(5).sample(range(24), 24)
    assert sample(logits[order], [requests[row] for row in order]) == [together[row] for row in order]


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.99])
def test_the_nucleus_is_that_of_generate(top_p: float) -> None:
    row = make_logits(1, 40, spread=1.5)[0]
    warped = TopPLogitsWarper(top_p)(torch.tensor([[0]]), row[None])[0]
    likely = torch.nonzero(warped.softmax(dim=-1) > 0.003)[:, 0].tolist()
    tokens = set(samples_of(row, 4_000, top_p=top_p))
    assert set(likely) <= tokens <= set(torch.nonzero(warped.isfinite())[:, 0].tolist())


@pytest.mark.parametrize("vocabulary", [300, 3_000, 60_000])
def test_the_nucleus_of_equal_tokens_is_the_first_of_them(vocabulary: int) -> None:
    tokens = [token or 0 for token in samples_of(torch.zeros(vocabulary), 200, top_p=0.5)]
    assert max(tokens) <= vocabulary // 2
    assert max(tokens) > vocabulary * 0.45
    assert min(tokens) < vocabulary * 0.05


def test_the_nucleus_reaches_from_one_likely_token_into_many_unlikely_ones() -> None:
    row = torch.zeros(40_001)
    row[7] = math.log(40_000)  # half of the probability
    tokens = samples_of(row, 600, top_p=0.75)
    assert 360 < tokens.count(7) < 440
    assert len(set(tokens)) > 150
    assert max(token or 0 for token in tokens) <= 20_001


@pytest.mark.parametrize(("position", "top_p"), [(1, 1.0), (2, 1.0), (70, 1.0), (1, 0.8)])
def test_samples_are_distributed_as_the_probabilities(position: int, top_p: float) -> None:
    row, seeds = make_logits(1, 12, spread=1.0)[0], 6_000
    warped = TopPLogitsWarper(top_p)(torch.tensor([[0]]), row[None])[0] if top_p < 1 else row
    expected = (warped.softmax(dim=-1) * seeds).tolist()
    counts = Counter(samples_of(row, seeds, position=position, top_p=top_p))
    distance = sum((counts[token] - count) ** 2 / count for token, count in enumerate(expected) if count)
    assert distance < 31.3  # the 0.999 quantile of chi-square for 11 degrees of freedom
    assert sum(counts.values()) == sum(counts[token] for token, count in enumerate(expected) if count)


def test_samples_at_different_positions_are_independent() -> None:
    row, seeds = torch.zeros(4), 8_000
    pairs = Counter(zip(samples_of(row, seeds, position=1), samples_of(row, seeds, position=2), strict=True))
    distance = sum((pairs[first, second] - 500) ** 2 / 500 for first in range(4) for second in range(4))
    assert distance < 37.7  # the 0.999 quantile of chi-square for 15 degrees of freedom


def test_each_seed_samples_its_own_tokens_and_the_same_again() -> None:
    seeds = [0, 1, 2, 3, 5, 2**31, 2**32 - 1]
    samples = [
        tuple(sample(torch.zeros(1, 1_000), [(GenerationOptions(temperature=1.0, seed=seed), [9] * length)])[0]
              for length in range(8))
        for seed in seeds
    ]  # fmt: skip
    assert len(set(samples)) == len(seeds)
    assert all(len(set(tokens)) > 4 for tokens in samples)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert samples_of(torch.zeros(1_000), 3) == samples_of(torch.zeros(1_000), 3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("seed", [0, 2, 2**32 - 1])
def test_random_numbers_are_numpys_philox_stream(seed: int) -> None:
    stream = np.random.Generator(np.random.Philox(key=seed)).random(200)
    assert [uniform(seed, position) for position in range(200)] == stream.tolist()


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_row_that_is_not_finite_has_no_token_and_changes_no_other(broken: float) -> None:
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


def test_a_narrow_nucleus_and_a_low_temperature_are_greedy() -> None:
    logits = make_logits(16, 5_000)
    greedy = sample(logits, [(GREEDY, [8])] * 16)
    narrow = GenerationOptions(temperature=1.0, top_p=0.01)
    cold = GenerationOptions(temperature=0.01)
    assert sample(logits, [(narrow, [8])] * 16) == sample(logits, [(cold, [8])] * 16) == greedy


def test_a_gpu_chooses_the_same_tokens_as_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the most likely tokens do not decide, and where logits are not finite."""
    logits, requests = make_logits(40, 3_000, spread=0.5), mixed_requests(40)
    logits[20:] *= 8.0
    logits[1, 7], logits[2], logits[3, 4] = torch.nan, -torch.inf, torch.inf
    logits[4, 20], logits[4, 30] = 99.0, 99.0
    tokens, copies = list[list[int | None]](), list[list[int]]()
    for on_host in (True, False):
        monkeypatch.setattr(sampling, "computes_on_host", lambda _, on_host=on_host: on_host)
        tokens.append(sample(logits, requests))
    assert tokens[0] == tokens[1]
    decide = Sampler._decide

    def recorded(*arguments: Any) -> list[int | None]:
        copies.append(arguments[-1])
        return decide(*arguments)

    monkeypatch.setattr(Sampler, "_decide", recorded)
    sample(logits, requests)
    assert copies[0].count(UNDECIDED) > 3
    assert sum(token >= 0 for token in copies[0][20:]) > 15


def test_ids_on_the_device_are_those_that_the_host_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """And valid ids where there is no token. After a step with undecided rows there are none."""
    monkeypatch.setattr(sampling, "computes_on_host", lambda _: False)
    sampler, logits = Sampler(STOP), make_logits(4, 60)
    logits[2, 3] = torch.nan
    greedy, sampled = (GREEDY, [8], START), (GenerationOptions(temperature=1.0), [8], START)
    for requests in ([greedy] * 4, [greedy, sampled, sampled, sampled], [sampled] * 4):
        choice = sampler.choose(logits.clone(), requests)
        assert choice.ids is not None
        assert choice.ids.min() >= 0
        tokens = choice.read()
        assert tokens[2] is None
        assert [tokens[row] for row in (0, 1, 3)] == choice.ids[[0, 1, 3]].tolist()
    flat = torch.zeros(1, 60_000)
    for requests in ([sampled], [sampled]):
        choice = sampler.choose(flat.clone(), requests)
        assert choice.read() != [None]
    assert choice.ids is None
    assert sampler.choose(flat.clone(), [greedy]).ids is not None
