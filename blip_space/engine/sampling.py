"""Chooses the next token of many sequences at once, by argmax or by nucleus (top-p) sampling.

Depends on options, torch, numpy and `models.transfer` only. On a GPU the argmax tokens come to the host in one copy,
for which only their reader waits; sampled tokens take a few more. The rules are those of transformers' logits
processors, in the order of `generate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import compress
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from blip_space.models.transfer import HostCopy, select_rows, to_device
from blip_space.options import GenerationOptions

NO_TOKEN = -1
"""Marks a row whose logits are not finite."""

BLOCK_SIZE, WORDS_PER_COUNT, CACHED_BLOCKS = 64, 4, 1024
"""Random numbers generated at a time, random numbers per count of Philox's counter, and cached blocks of numbers."""

ALL_BITS, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)

MIN_PROBABILITIES = (2.0**-10, 2.0**-15, 0.0)
"""First only tokens more likely than the first number are sorted. If they do not decide, those above the second are,
then all. At most 1024 tokens exceed the first number, and 32768 the second."""

SamplingInput: TypeAlias = tuple[GenerationOptions, Sequence[int], Sequence[int]]
"""A sequence's options, its new tokens so far, and the start tokens that its decoder read before them."""

Candidates: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Probabilities, and the tokens that have them."""


class Choice:
    """The tokens that were chosen for some rows, on the device and later on the host."""

    def __init__(self, tokens: HostCopy | list[int | None], ids: torch.Tensor | None = None) -> None:
        """`ids` (rows,) are the tokens on the device, any id where there is none; None if only the host has them."""
        self.ids = ids
        self._tokens = tokens

    def read(self) -> list[int | None]:
        """The tokens; None where the logits were not finite. Waits for the device."""
        if isinstance(self._tokens, HostCopy):
            self._tokens = [None if token == NO_TOKEN else token for token in self._tokens.read()]
        return self._tokens


class Sampler:
    """Samples the next tokens of sequences of one language model.

    The first token is never one of `stop`, so no reply is empty. The repetition penalty counts the decoder's start
    tokens and the new tokens, not the prompt.
    """

    def __init__(self, stop: frozenset[int]) -> None:
        self._stop = sorted(stop)

    def sample(self, logits: torch.Tensor, requests: Sequence[SamplingInput]) -> list[int | None]:
        """The next token for each row of `logits`; see `choose`."""
        return self.choose(logits, requests).read()

    @torch.inference_mode()
    def choose(self, logits: torch.Tensor, requests: Sequence[SamplingInput]) -> Choice:
        """The next token for each row of `logits`, which are float32 (sequences, vocabulary) and may be overwritten.

        None for a row whose logits are not finite. A token depends only on its own row and request; its random number
        depends on `options.seed` and the number of new tokens before it.
        """
        self._penalize(logits, requests)
        self._forbid_stopping(logits, requests)
        is_sampled = [options.temperature > 0 for options, _, _ in requests]
        if not any(is_sampled):
            return _argmax(logits)
        samples = _sample(logits, list(compress(enumerate(requests), is_sampled)))
        if all(is_sampled):
            return Choice(samples)
        greedy, rest = _argmax(logits).read(), iter(samples)
        return Choice([next(rest) if sampled else token for sampled, token in zip(is_sampled, greedy, strict=True)])

    def _penalize(self, logits: torch.Tensor, requests: Sequence[SamplingInput]) -> None:
        rows, tokens, penalties = list[int](), list[int](), list[float]()
        for row, (options, ids, start) in enumerate(requests):
            if options.repetition_penalty != 1.0:
                penalized = {*start, *ids}
                tokens += penalized
                rows += [row] * len(penalized)
                penalties += [options.repetition_penalty] * len(penalized)
        if tokens:
            row_index, columns = to_device([rows, tokens], logits.device)
            apply_repetition_penalty(logits, row_index, columns, torch.tensor(penalties, dtype=torch.float32))

    def _forbid_stopping(self, logits: torch.Tensor, requests: Sequence[SamplingInput]) -> None:
        rows = [row for row, (_, ids, _) in enumerate(requests) if not ids] if self._stop else []
        if rows:
            index = to_device(rows, logits.device)[:, None], to_device(self._stop, logits.device)
            logits[index] = -torch.inf


def apply_repetition_penalty(
    scores: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor, penalties: torch.Tensor
) -> None:
    """Apply `penalties[i]` to the score of `tokens[i]` in row `rows[i]`, in place.

    `scores` are float32 (sequences, vocabulary), logits or their log softmax; the other arguments are (n,). A token
    that occurs twice is penalized once.
    """
    index = rows.to(scores.device), tokens.to(scores.device)
    penalties = penalties.to(scores)
    selected = scores[index]
    scores[index] = torch.where(selected < 0, selected * penalties, selected / penalties)


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1): the high 53 bits of the word at `position` of the Philox 4x64-10 stream with the key `seed`.

    It is the same on every machine and in every version of numpy, which guarantees its bit generators' streams.
    """
    block, index = divmod(position, BLOCK_SIZE)
    return _uniform_block(seed, block)[index]


@lru_cache(CACHED_BLOCKS)
def _uniform_block(seed: int, block: int) -> list[float]:
    philox = np.random.Philox(key=seed, counter=block * (BLOCK_SIZE // WORDS_PER_COUNT))
    return [float(word >> 11) * 2.0**-53 for word in philox.random_raw(BLOCK_SIZE).tolist()]


def _argmax(logits: torch.Tensor) -> Choice:
    """The argmax of each row, or None if it is not finite."""
    if logits.device.type != "cpu":
        return _argmax_in_one_copy(logits)
    scores = logits.numpy()  # numpy's argmax is vectorized, and torch's ten times slower
    tokens = scores.argmax(axis=-1)
    finite = np.isfinite(scores[np.arange(len(scores)), tokens])  # argmax finds NaN and inf
    chosen = [token if is_finite else None for token, is_finite in zip(tokens.tolist(), finite.tolist(), strict=True)]
    return Choice(chosen, torch.from_numpy(tokens))


def _argmax_in_one_copy(logits: torch.Tensor) -> Choice:
    """`_argmax` on any device; only `read` waits for it."""
    tokens = logits.argmax(dim=-1, keepdim=True)
    marked = torch.where(logits.gather(1, tokens).isfinite(), tokens, NO_TOKEN)
    return Choice(HostCopy(marked[:, 0]), tokens[:, 0])


def _sample(logits: torch.Tensor, requests: Sequence[tuple[int, SamplingInput]]) -> list[int | None]:
    """The sampled token for each pair of row index and request; None if the row's logits are not finite."""
    scores = logits
    if len(requests) < len(logits):
        scores = select_rows(logits, [row for row, _ in requests])
    temperatures = [options.temperature for _, (options, _, _) in requests]
    if any(temperature != 1.0 for temperature in temperatures):
        scores = scores / torch.tensor(temperatures, dtype=torch.float32, device=scores.device)[:, None]
    probabilities = scores.softmax(dim=-1)
    settings = [(options.top_p, uniform(options.seed, len(ids))) for _, (options, ids, _) in requests]
    tokens: list[int | None] = [None] * len(settings)
    undecided = list(range(len(settings)))
    for min_probability in MIN_PROBABILITIES:
        candidates = _candidates(probabilities, undecided, min_probability)
        for row, (values, ids) in zip(undecided, candidates, strict=True):
            tokens[row] = _sample_nucleus(values, ids, *settings[row], are_all=min_probability == 0.0)
        undecided = [row for row in undecided if tokens[row] is None]
        if not undecided:
            break
    return tokens


def _candidates(probabilities: torch.Tensor, rows: Sequence[int], min_probability: float) -> list[Candidates]:
    """For each of `rows`, the tokens that are more likely than `min_probability`."""
    if probabilities.device.type == "cpu":  # numpy is thirty times faster
        values = [probabilities[row].numpy() for row in rows]
        tokens = [np.flatnonzero(row > min_probability) for row in values]
        return [(row[ids], ids) for row, ids in zip(values, tokens, strict=True)]
    return _candidates_in_few_copies(probabilities, rows, min_probability)


def _candidates_in_few_copies(
    probabilities: torch.Tensor, rows: Sequence[int], min_probability: float
) -> list[Candidates]:
    """`_candidates` on any device; the number of copies to the host does not depend on the number of rows."""
    selected = probabilities if len(rows) == len(probabilities) else probabilities[list(rows)]
    row_index, token = (selected > min_probability).nonzero(as_tuple=True)
    values = selected[row_index, token].cpu().numpy()
    ends = np.searchsorted(row_index.cpu().numpy(), np.arange(1, len(rows)))
    return list(zip(np.split(values, ends), np.split(token.cpu().numpy(), ends), strict=True))


def _sample_nucleus(
    probabilities: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64], top_p: float, number: float, *, are_all: bool
) -> int | None:
    """The token at which the cumulative probability of the nucleus, most likely tokens first, exceeds `number`.

    None if there are too few candidates to decide; `are_all` says that there are no others.
    """
    if not len(tokens):
        return None
    # sorted by falling probability, then by token: the bits of positive floats have the order of the floats
    keys = ((ALL_BITS - probabilities.view(np.uint32).astype(np.uint64)) << HALF) | tokens.astype(np.uint64)
    keys.sort()
    cumulative = (ALL_BITS - (keys >> HALF)).astype(np.uint32).view(np.float32).cumsum(dtype=np.float64)
    last = len(cumulative) - 1
    if top_p < 1.0:
        last = min(last, int(np.searchsorted(cumulative, top_p)))  # the token that reaches top_p is in the nucleus
    reached = are_all or cumulative[last] >= top_p or (top_p == 1.0 and cumulative[last] > number)
    if not reached:
        return None
    mass = cumulative[last] if are_all or top_p < 1.0 else 1.0
    return int(keys[min(last, np.searchsorted(cumulative, number * mass, side="right"))] & ALL_BITS)
