"""Chooses the next token of many sequences at once, by argmax or by nucleus (top-p) sampling.

Depends on options, torch, numpy and `models.transfer` only. On a GPU the tokens come to the host in one copy, for which
only their reader waits. The rules are those of transformers' logits processors, in the order of `generate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from blip_space.engine.device_sampling import NO_TOKEN, UNDECIDED, greedy_tokens, nucleus_tokens
from blip_space.models.transfer import HostCopy, select_rows, to_device
from blip_space.options import GenerationOptions

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


class Settings(NamedTuple):
    """How the next token of a row is sampled; `number` in [0, 1) decides."""

    temperature: float
    top_p: float
    number: float


class Choice:
    """The tokens that were chosen for some rows, on the device and later on the host."""

    def __init__(
        self,
        tokens: Sequence[int | None] | HostCopy,
        ids: torch.Tensor | None = None,
        decide: Callable[[list[int]], Sequence[int | None]] = list,
    ) -> None:
        """`ids` (rows,) are the tokens on the device, any id where there is none; None if only the host has them.
        `decide` returns the tokens for those that were copied from the device."""
        self.ids = ids
        self._tokens = tokens
        self._decide = decide

    def read(self) -> Sequence[int | None]:
        """The tokens; None where the logits were not finite. Waits for the device."""
        if isinstance(self._tokens, HostCopy):
            tokens = self._decide(self._tokens.read())
            self._tokens = [None if token == NO_TOKEN else token for token in tokens]
        return self._tokens


class Sampler:
    """Samples the next tokens of sequences of one language model.

    The first token is never one of `stop`, so no reply is empty. The repetition penalty counts the decoder's start
    tokens and the new tokens, not the prompt.
    """

    def __init__(self, stop: frozenset[int]) -> None:
        self._stop = sorted(stop)
        self._was_undecided = False
        """Whether a row of the last step was. Then steps that were launched with its token would be in vain."""

    def sample(self, logits: torch.Tensor, requests: Sequence[SamplingInput]) -> list[int | None]:
        """The next token for each row of `logits`; see `choose`."""
        return list(self.choose(logits, requests).read())

    @torch.inference_mode()
    def choose(self, logits: torch.Tensor, requests: Sequence[SamplingInput]) -> Choice:
        """The next token for each row of `logits`, which are float32 (sequences, vocabulary) and may be overwritten.

        None for a row whose logits are not finite. A token depends only on its own row and request; its random number
        depends on `options.seed` and the number of new tokens before it.
        """
        self._penalize(logits, requests)
        self._forbid_stopping(logits, requests)
        rows = [row for row, (options, _, _) in enumerate(requests) if options.temperature > 0]
        settings = [_settings(*requests[row]) for row in rows]
        if not computes_on_host(logits):
            return self._choose_on_device(logits, rows, settings)
        tokens: list[int | None] = _argmax(logits) if len(rows) < len(requests) else [None] * len(requests)
        for row, token in zip(rows, _sample(_probabilities(logits, rows, settings), settings), strict=True):
            tokens[row] = token
        return Choice(tokens)

    def _choose_on_device(self, logits: torch.Tensor, rows: list[int], settings: list[Settings]) -> Choice:
        """`choose` without a wait; `rows` are sampled with these settings. Rows that are undecided end on the host."""
        if not rows:
            tokens = greedy_tokens(logits)
            return Choice(HostCopy(tokens), tokens.clamp(min=0))
        probabilities = _probabilities(logits, rows, settings)
        columns = [[each.top_p for each in settings], [each.number for each in settings]]
        tokens = nucleus_tokens(probabilities, *to_device(columns, logits.device, torch.float64))
        if len(rows) < len(logits):
            tokens = greedy_tokens(logits).index_copy(0, to_device(rows, logits.device), tokens)
        ids = None if self._was_undecided else tokens.clamp(min=0)
        return Choice(HostCopy(tokens), ids, partial(self._decide, probabilities, rows, settings))

    def _decide(
        self, probabilities: torch.Tensor, rows: list[int], settings: list[Settings], tokens: list[int]
    ) -> list[int | None]:
        """The tokens with those of undecided rows."""
        decided: list[int | None] = [*tokens]
        undecided = [index for index, row in enumerate(rows) if tokens[row] == UNDECIDED]
        self._was_undecided = bool(undecided)
        if undecided:
            on_host = select_rows(probabilities, undecided).cpu()
            for index, token in zip(undecided, _sample(on_host, [settings[index] for index in undecided]), strict=True):
                decided[rows[index]] = token
        return decided

    def _penalize(self, logits: torch.Tensor, requests: Sequence[SamplingInput]) -> None:
        rows = [row for row, (options, _, _) in enumerate(requests) if options.repetition_penalty != 1.0]
        tokens = [np.array([*requests[row][2], *requests[row][1]], dtype=np.int64) for row in rows]
        counts = [len(part) for part in tokens]
        if any(counts):
            index, ids = to_device(np.stack([np.repeat(rows, counts), np.concatenate(tokens)]), logits.device)
            penalties = np.repeat([requests[row][0].repetition_penalty for row in rows], counts)
            apply_repetition_penalty(logits, index, ids, to_device(penalties, logits.device, torch.float32))

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


def computes_on_host(logits: torch.Tensor) -> bool:
    """Whether numpy chooses, which is up to thirty times faster than torch on a CPU."""
    return logits.device.type == "cpu"


def _argmax(logits: torch.Tensor) -> list[int | None]:
    """The argmax of each row, or None if it is not finite."""
    scores = logits.numpy()  # numpy's argmax is vectorized, and torch's ten times slower
    tokens = scores.argmax(axis=-1)
    finite = np.isfinite(scores[np.arange(len(scores)), tokens])  # argmax finds NaN and inf
    return [token if is_finite else None for token, is_finite in zip(tokens.tolist(), finite.tolist(), strict=True)]


def _settings(options: GenerationOptions, ids: Sequence[int], _: Sequence[int]) -> Settings:
    return Settings(options.temperature, options.top_p, uniform(options.seed, len(ids)))


def _probabilities(logits: torch.Tensor, rows: Sequence[int], settings: Sequence[Settings]) -> torch.Tensor:
    """The probabilities (rows, vocabulary) of some rows at their temperatures."""
    scores = logits if len(rows) == len(logits) else select_rows(logits, rows)
    if any(each.temperature != 1.0 for each in settings):
        temperatures = [each.temperature for each in settings]
        scores = scores / to_device(temperatures, scores.device, torch.float32)[:, None]
    return scores.softmax(dim=-1)


def _sample(probabilities: torch.Tensor, settings: Sequence[Settings]) -> list[int | None]:
    """The sampled token of each row; None if its logits are not finite."""
    tokens: list[int | None] = [None] * len(settings)
    undecided = list(range(len(settings)))
    for min_probability in MIN_PROBABILITIES:
        candidates = _candidates(probabilities, undecided, min_probability)
        for row, (values, ids) in zip(undecided, candidates, strict=True):
            tokens[row] = _sample_nucleus(values, ids, settings[row], are_all=min_probability == 0.0)
        undecided = [row for row in undecided if tokens[row] is None]
        if not undecided:
            break
    return tokens


def _candidates(probabilities: torch.Tensor, rows: Sequence[int], min_probability: float) -> list[Candidates]:
    """For each of `rows`, the tokens that are more likely than `min_probability`."""
    values = [probabilities[row].numpy() for row in rows]
    tokens = [np.flatnonzero(row > min_probability) for row in values]
    return [(row[ids], ids) for row, ids in zip(values, tokens, strict=True)]


def _sample_nucleus(
    probabilities: npt.NDArray[np.float32], tokens: npt.NDArray[np.int64], settings: Settings, *, are_all: bool
) -> int | None:
    """The token at which the cumulative probability of the nucleus, most likely tokens first, exceeds the number.

    None if there are too few candidates to decide; `are_all` says that there are no others.
    """
    if not len(tokens):
        return None
    # sorted by falling probability, then by token: the bits of positive floats have the order of the floats
    keys = ((ALL_BITS - probabilities.view(np.uint32).astype(np.uint64)) << HALF) | tokens.astype(np.uint64)
    keys.sort()
    cumulative = (ALL_BITS - (keys >> HALF)).astype(np.uint32).view(np.float32).cumsum(dtype=np.float64)
    last, top_p, number = len(cumulative) - 1, settings.top_p, settings.number
    if top_p < 1.0:
        last = min(last, int(np.searchsorted(cumulative, top_p)))  # the token that reaches top_p is in the nucleus
    reached = are_all or cumulative[last] >= top_p or (top_p == 1.0 and cumulative[last] > number)
    if not reached:
        return None
    mass = cumulative[last] if are_all or top_p < 1.0 else 1.0
    return int(keys[min(last, int(np.searchsorted(cumulative, number * mass, side="right")))] & ALL_BITS)
