"""Beam search of several requests at once, on log probabilities from whatever runs the language model.

Depends on options, torch and numpy only; must not import models, serving or apps. Every decision is the one that
transformers 5.23's `generate(num_beams=n, do_sample=False, min_new_tokens=1)` makes for the request alone, ties between
equal scores included where both compute on the CPU: the same float32 arithmetic and the same `topk` decide them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from blip_space.engine.sampling import apply_repetition_penalty
from blip_space.options import GenerationOptions

EXCLUDED = -1e9
"""What is added to a score that must not be chosen."""

PARTIAL_SORT = 64
"""torch's `topk` takes the best k of n by another algorithm, which orders ties differently, where n < 64 k."""


class BeamSearch:
    """The beams of one request. `advance` moves it by one token a beam."""

    def __init__(self, options: GenerationOptions, *, stop: frozenset[int], start: Sequence[int]) -> None:
        """The tokens of `stop` end a beam; `start` is what a decoder has read before the first new token."""
        self.options = options
        self.num_beams = options.num_beams
        self.length = 0
        """The steps so far, which is the number of tokens of each beam."""
        self.tokens: list[int] = []
        """What each beam reads next; none before the first step."""
        self.parents: list[int] = []
        """From which beam of the step before each comes; after the first step all come from the one row."""
        self.done = False
        self.failed = False
        """Whether it is done because the logits were not finite, so that there is no best beam."""
        self._stop = stop
        self._start = len(start)
        self._ids = np.empty((self.num_beams, len(start) + options.max_new_tokens), dtype=np.int64)
        self._ids[:, : self._start] = start
        self._scores = torch.zeros(self.num_beams)
        self._completed: list[list[int]] = [[]] * self.num_beams
        self._completed_scores = torch.full((self.num_beams,), EXCLUDED)
        self._is_completed = torch.zeros(self.num_beams, dtype=torch.bool)

    @property
    def num_rows(self) -> int:
        """The number of rows of logits that the next step takes: the prompt's, or one for each beam."""
        return self.num_beams if self.length else 1

    @property
    def best_tokens(self) -> list[int]:
        """The tokens of the best beam so far, completed or not, without start and stop tokens; none if it `failed`."""
        if self.failed or not self.length:
            return []
        if self._is_completed[0] and self._completed_scores[0] >= self._scores[0] / self._divisor:
            return self._completed[0]
        beam: list[int] = self._ids[0, self._start : self._start + self.length].tolist()
        return beam

    @property
    def _divisor(self) -> float:
        """What a score is divided by at this length."""
        return float(self.length**self.options.length_penalty)

    @property
    def _candidates(self) -> int:
        """How many continuations are looked at: so many that, whatever stops, `num_beams` go on."""
        return max(2, 1 + len(self._stop)) * self.num_beams

    def _read(self) -> npt.NDArray[np.int64]:
        """What each row of the next step has read beside the prompt, of shape (rows, tokens)."""
        return self._ids[: self.num_rows, : self._start + self.length]


@torch.inference_mode()
def advance(searches: Sequence[BeamSearch], logits: torch.Tensor) -> None:
    """One step of each search, from float32 logits of shape (all their `rows`, vocabulary), in the searches' order.

    They may differ in options and in length; none is done.
    """
    assert sum(search.num_rows for search in searches) == len(logits)
    assert not any(search.done for search in searches)
    log_probs = logits.log_softmax(dim=-1)
    first_rows = np.cumsum([0, *(search.num_rows for search in searches)]).tolist()[:-1]
    _penalize(searches, first_rows, log_probs)
    _forbid_stopping(searches, first_rows, log_probs)
    groups: dict[tuple[int, int, int], tuple[list[BeamSearch], list[int]]] = {}
    for search, first in zip(searches, first_rows, strict=True):
        key = (search.num_rows, search.num_beams, search._candidates)
        members, rows = groups.setdefault(key, ([], []))
        members.append(search)
        rows += range(first, first + search.num_rows)
    for members, rows in groups.values():
        own = log_probs
        if len(groups) > 1:
            own = log_probs[torch.tensor(rows, device=logits.device)]
        _extend(members, *_best_continuations(members, own))


def _penalize(searches: Sequence[BeamSearch], first_rows: Sequence[int], log_probs: torch.Tensor) -> None:
    rows, tokens, penalties = [], [], []
    for search, first in zip(searches, first_rows, strict=True):
        if search.options.repetition_penalty != 1.0:
            read = search._read()
            tokens.append(read.ravel())
            rows.append(np.repeat(np.arange(first, first + len(read)), read.shape[1]))
            penalties.append(np.full(read.size, search.options.repetition_penalty, dtype=np.float32))
    if tokens:
        columns = (torch.from_numpy(np.concatenate(parts)) for parts in (rows, tokens, penalties))
        apply_repetition_penalty(log_probs, *columns)


def _forbid_stopping(searches: Sequence[BeamSearch], first_rows: Sequence[int], log_probs: torch.Tensor) -> None:
    """No first token is a stop token."""
    for search, first in zip(searches, first_rows, strict=True):
        if search._stop and not search.length:
            log_probs[first, torch.tensor(sorted(search._stop))] = -torch.inf


def _best_continuations(
    searches: Sequence[BeamSearch], log_probs: torch.Tensor
) -> tuple[torch.Tensor, list[list[int]], list[list[int]]]:
    """Of searches of one kind: the best scores (searches, candidates), each one's beam, and its token."""
    search, vocabulary = searches[0], log_probs.shape[1]
    scores = log_probs.view(len(searches), search.num_rows, vocabulary)
    if search.length:
        scores += torch.stack([search._scores for search in searches]).to(scores.device)[:, :, None]
    elif vocabulary < PARTIAL_SORT * search._candidates:
        # `generate` begins with as many equal beams, of which all but one are excluded
        others = (scores + EXCLUDED).expand(-1, search.num_beams - 1, -1)
        scores = torch.cat([scores, others], dim=1)
    values, places = scores.flatten(1).topk(search._candidates)
    beams = places // vocabulary if search.length else torch.zeros_like(places)
    return values.cpu(), beams.tolist(), (places % vocabulary).tolist()


def _extend(
    searches: Sequence[BeamSearch], scores: torch.Tensor, beams: list[list[int]], tokens: list[list[int]]
) -> None:
    """Take the best continuations that go on as the next beams, and keep those that end if they are good enough."""
    width = searches[0].num_beams
    for search in searches:
        search.length += 1
    ends = torch.tensor(
        [
            [search.length >= search.options.max_new_tokens or token in search._stop for token in row]
            for search, row in zip(searches, tokens, strict=True)
        ]
    )
    divisors = torch.tensor([search._divisor for search in searches])[:, None]
    going = scores + ends * EXCLUDED
    order = going.topk(width)[1]
    going = going.gather(1, order)

    # a beam that ends counts only among the best `width`: the others are there so that enough go on
    completes = ends.clone()
    completes[:, width:] = False
    merged = torch.cat(
        [torch.stack([search._completed_scores for search in searches]), scores / divisors + ~completes * EXCLUDED],
        dim=1,
    )
    is_completed = torch.cat([torch.stack([search._is_completed for search in searches]), completes], dim=1)
    kept = merged.topk(width)[1]
    merged, is_completed = merged.gather(1, kept), is_completed.gather(1, kept)

    # it goes on while the best beam, ended here, would be better than the worst that is completed
    worst = torch.where(is_completed, merged.amin(dim=1, keepdim=True), EXCLUDED)
    can_improve = (going[:, :1] / divisors > worst).any(dim=1)
    done = ~can_improve | ends.all(dim=1)
    failed = scores[:, 0].isnan()  # which `topk` puts first
    rows = zip(searches, beams, tokens, order.tolist(), kept.tolist(), done.tolist(), failed.tolist(), strict=True)
    for index, (search, row_beams, row_tokens, row_order, row_kept, is_done, is_failed) in enumerate(rows):
        search._completed = [
            search._completed[place] if place < width else _sequence(search, row_beams, row_tokens, place - width)
            for place in row_kept
        ]
        search._scores, search._completed_scores = going[index], merged[index]
        search._is_completed = is_completed[index]
        search.parents = [row_beams[place] for place in row_order]
        search.tokens = [row_tokens[place] for place in row_order]
        end = search._start + search.length
        search._ids[:, : end - 1] = search._ids[search.parents, : end - 1]
        search._ids[:, end - 1] = search.tokens
        search.done, search.failed = is_done or is_failed, is_failed


def _sequence(search: BeamSearch, beams: Sequence[int], tokens: Sequence[int], place: int) -> list[int]:
    """The tokens of a continuation, without the stop token that may end it."""
    before: list[int] = search._ids[beams[place], search._start : search._start + search.length - 1].tolist()
    return before if tokens[place] in search._stop else [*before, tokens[place]]
