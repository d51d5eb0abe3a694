"""The next token of many sequences at once: the argmax token, or one drawn from the nucleus.

Depends on options, torch and numpy only; must not import models, serving or apps. On a GPU the argmax tokens come to
the host in one copy; sampled rows cost a few more. The rules are those of transformers'
logits processors, in the order in which `generate` applies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import compress
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from blip_space.models.transfer import select_rows, to_device, to_host
from blip_space.options import GenerationOptions

BLOCK_DRAWS, WORDS_PER_COUNT, CACHED_BLOCKS = 64, 4, 1024
"""Random numbers are made this many at a time, of which Philox makes four a count; and how many blocks are kept."""

ALL_BITS, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)

LEAST_PROBABILITIES = (2.0**-10, 2.0**-15, 0.0)
"""Tokens below the first are looked at only where those above do not decide, and so on. No more than 1024 tokens can
reach the first, and 32768 the second."""


SampledRequest: TypeAlias = tuple[GenerationOptions, Sequence[int], Sequence[int]]
"""A sequence's options, its new tokens so far, and what its decoder has read before the first of them."""


class Sampler:
    """Chooses the next tokens of sequences on one language model.

    The first token is never one of `stop`, so no reply is empty. The repetition penalty counts what a decoder has read
    before the first new token, which is not the prompt, and a sequence's own new tokens.
    """

    def __init__(self, stop: frozenset[int]) -> None:
        self._stop = sorted(stop)

    @torch.inference_mode()
    def sample(self, logits: torch.Tensor, requests: Sequence[SampledRequest]) -> list[int | None]:
        """One token for each row of `logits`, float32 of shape (sequences, vocabulary), which may be overwritten.

        `requests` are those of each row's sequence. None where a row's numbers are not
        finite, so that nothing can be chosen. A token depends on its own row and request alone: not on other rows, and
        a draw on nothing but `options.seed` and the number of tokens before it.
        """
        self._penalize(logits, requests)
        self._forbid_stopping(logits, requests)
        is_drawn = [options.temperature > 0 for options, _, _ in requests]
        if not any(is_drawn):
            return _argmax(logits)
        drawn = iter(_draw(logits, list(compress(enumerate(requests), is_drawn))))
        if all(is_drawn):
            return list(drawn)
        return [next(drawn) if draw else token for draw, token in zip(is_drawn, _argmax(logits), strict=True)]

    def _penalize(self, logits: torch.Tensor, requests: Sequence[SampledRequest]) -> None:
        rows, tokens, penalties = list[int](), list[int](), list[float]()
        for row, (options, ids, start) in enumerate(requests):
            if options.repetition_penalty != 1.0:
                counted = {*start, *ids}
                tokens += counted
                rows += [row] * len(counted)
                penalties += [options.repetition_penalty] * len(counted)
        if tokens:
            row_index, columns = to_device([rows, tokens], logits.device)
            apply_repetition_penalty(logits, row_index, columns, torch.tensor(penalties))

    def _forbid_stopping(self, logits: torch.Tensor, requests: Sequence[SampledRequest]) -> None:
        rows = [row for row, (_, ids, _) in enumerate(requests) if not ids] if self._stop else []
        if rows:
            index = to_device(rows, logits.device)[:, None], to_device(self._stop, logits.device)
            logits[index] = -torch.inf


def apply_repetition_penalty(
    scores: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor, penalties: torch.Tensor
) -> None:
    """Apply the repetition penalty in place: to the score in `rows` and `tokens`, the penalty at the same index.

    `scores` are float32 of shape (sequences, vocabulary), logits or their log softmax, the others of shape (n,); a
    token that is named twice is penalized once.
    """
    place = rows.to(scores.device), tokens.to(scores.device)
    penalties = penalties.to(scores)
    found = scores[place]
    scores[place] = torch.where(found < 0, found * penalties, found / penalties)


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1): the high 53 bits of the one at `position` of the Philox 4x64-10 stream with the key `seed`.

    The same on every machine and for every version of numpy, which promises it of its bit generators.
    """
    block, index = divmod(position, BLOCK_DRAWS)
    return _uniform_block(seed, block)[index]


@lru_cache(CACHED_BLOCKS)
def _uniform_block(seed: int, block: int) -> list[float]:
    philox = np.random.Philox(key=seed, counter=block * (BLOCK_DRAWS // WORDS_PER_COUNT))
    return [float(word >> 11) * 2.0**-53 for word in philox.random_raw(BLOCK_DRAWS).tolist()]


def _argmax(logits: torch.Tensor) -> list[int | None]:
    if logits.device.type == "cpu":  # numpy's is vectorized, torch's is not, and ten times slower
        scores = logits.numpy()
        tokens = scores.argmax(axis=-1)
        finite = np.isfinite(scores[np.arange(len(scores)), tokens])  # what is not finite is a row's maximum
        return [token if is_finite else None for token, is_finite in zip(tokens.tolist(), finite.tolist(), strict=True)]
    return _argmax_in_one_copy(logits)


def _argmax_in_one_copy(logits: torch.Tensor) -> list[int | None]:
    """The same on any device, with one transfer."""
    found = logits.argmax(dim=-1, keepdim=True)
    marked = torch.where(logits.gather(1, found).isfinite(), found, -1)
    return [token if token >= 0 else None for token in to_host(marked[:, 0])]


def _draw(logits: torch.Tensor, requests: Sequence[tuple[int, SampledRequest]]) -> list[int | None]:
    """A token for each of these rows, given with their requests."""
    scores = logits
    if len(requests) < len(logits):
        scores = select_rows(logits, [row for row, _ in requests])
    temperatures = [options.temperature for _, (options, _, _) in requests]
    if any(temperature != 1.0 for temperature in temperatures):
        scores = scores / torch.tensor(temperatures, device=scores.device)[:, None]
    probabilities = scores.softmax(dim=-1)
    draws = [(options.top_p, uniform(options.seed, len(ids))) for _, (options, ids, _) in requests]
    tokens: list[int | None] = [None] * len(draws)
    undecided = list(range(len(draws)))
    for least in LEAST_PROBABILITIES:
        candidates = _candidates(probabilities, undecided, least)
        for row, (found, ids) in zip(undecided, candidates, strict=True):
            tokens[row] = _drawn(found, ids, *draws[row], are_all=least == 0.0)
        undecided = [row for row in undecided if tokens[row] is None]
        if not undecided:
            break
    return tokens


def _candidates(
    probabilities: torch.Tensor, rows: Sequence[int], least: float
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """For each of these rows, the probabilities of its tokens that have more than that, and the tokens."""
    if probabilities.device.type == "cpu":  # numpy finds them thirty times faster
        every = [probabilities[row].numpy() for row in rows]
        chosen = [np.flatnonzero(row > least) for row in every]
        return [(row[tokens], tokens) for row, tokens in zip(every, chosen, strict=True)]
    return _candidates_in_few_copies(probabilities, rows, least)


def _candidates_in_few_copies(
    probabilities: torch.Tensor, rows: Sequence[int], least: float
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """The same on any device, with as many transfers however many rows there are."""
    taken = probabilities if len(rows) == len(probabilities) else probabilities[list(rows)]
    row_of, token = (taken > least).nonzero(as_tuple=True)
    found = taken[row_of, token].cpu().numpy()
    ends = np.searchsorted(row_of.cpu().numpy(), np.arange(1, len(rows)))
    return list(zip(np.split(found, ends), np.split(token.cpu().numpy(), ends), strict=True))


def _drawn(
    found: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64], top_p: float, number: float, *, are_all: bool
) -> int | None:
    """The token of the nucleus at which the cumulative probability, from the likeliest down, passes `number`.

    None where these candidates do not reach so far, or where there are none.
    """
    if not len(tokens):
        return None
    # the likeliest first and of equals the lower token, whatever sorts them: the bits of positive floats are ordered
    keys = ((ALL_BITS - found.view(np.uint32).astype(np.uint64)) << HALF) | tokens.astype(np.uint64)
    keys.sort()
    cumulative = (ALL_BITS - (keys >> HALF)).astype(np.uint32).view(np.float32).cumsum(dtype=np.float64)
    last = len(cumulative) - 1
    if top_p < 1.0:
        last = min(last, int(np.searchsorted(cumulative, top_p)))  # the token that reaches it is in the nucleus
    reached = are_all or cumulative[last] >= top_p or (top_p == 1.0 and cumulative[last] > number)
    if not reached:
        return None
    mass = cumulative[last] if are_all or top_p < 1.0 else 1.0
    return int(keys[min(last, np.searchsorted(cumulative, number * mass, side="right"))] & ALL_BITS)
