"""Beam search of several requests at once, on the logits of one batch.

Depends on options, torch and numpy only; must not import models, serving or apps. Every decision is the one that
transformers 5.23's `generate(num_beams=n, do_sample=False, min_new_tokens=1)` makes for the request alone. On the CPU
this includes ties, since float32 arithmetic and `topk` are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from blip_space.engine.sampling import apply_repetition_penalty
from blip_space.options import GenerationOptions

EXCLUDED = -1e9
"""Added to a score that must not be selected."""

PARTIAL_SORT_FACTOR = 64
"""If n < 64 k, torch's `topk` of k among n numbers uses another algorithm, which orders ties differently."""


class BeamSearch:
    """The beams of one request. `advance` appends a token to each beam."""

    def __init__(self, options: GenerationOptions, *, stop: frozenset[int], start: Sequence[int]) -> None:
        """The tokens of `stop` end a beam; those of `start` are what an encoder-decoder model's decoder reads first."""
        self.options = options
        self.num_beams = options.num_beams
        self.length = 0
        """The number of new tokens of each beam."""
        self.tokens: list[int] = []
        """The last token of each beam, which is decoded next; empty before the first step."""
        self.parents: list[int] = []
        """For each beam, the beam of the previous step that it continues. After the first step 0, the prompt's row."""
        self.done = False
        self.failed = False
        """Whether the search ended because logits were not finite; then there is no best beam."""
        self._stop = stop
        self._start = len(start)
        self._ids = np.empty((self.num_beams, len(start) + options.max_new_tokens), dtype=np.int64)
        self._ids[:, : self._start] = start
        self._scores = torch.zeros(self.num_beams, dtype=torch.float32)
        self._completed: list[list[int]] = [[]] * self.num_beams
        self._completed_scores = torch.full((self.num_beams,), EXCLUDED, dtype=torch.float32)
        self._is_completed = torch.zeros(self.num_beams, dtype=torch.bool)

    @property
    def num_rows(self) -> int:
        """How many rows of logits the next step takes: one for the prompt, later one for each beam."""
        return self.num_beams if self.length else 1

    @property
    def best_tokens(self) -> list[int]:
        """The tokens of the best beam so far, completed or not, without start and stop tokens; empty if `failed`."""
        if self.failed or not self.length:
            return []
        if self._is_completed[0] and self._completed_scores[0] >= self._scores[0] / self._divisor:
            return self._completed[0]
        beam: list[int] = self._ids[0, self._start : self._start + self.length].tolist()
        return beam

    @property
    def _divisor(self) -> float:
        """`length ** length_penalty`, by which a beam's summed log probability is divided."""
        return float(self.length**self.options.length_penalty)

    @property
    def _candidates(self) -> int:
        """How many continuations are considered: so many that `num_beams` of them go on, however many end."""
        return max(2, 1 + len(self._stop)) * self.num_beams

    def _rows_of_ids(self) -> npt.NDArray[np.int64]:
        """The start and new tokens of each row of the next step, of shape (rows, tokens)."""
        return self._ids[: self.num_rows, : self._start + self.length]


@torch.inference_mode()
def advance(searches: Sequence[BeamSearch], logits: torch.Tensor) -> None:
    """Advance each search by one step; `logits` are float32 (sum of `num_rows`, vocabulary), in the searches' order.

    Searches may differ in options and in length; none may be `done`.
    """
    assert sum(search.num_rows for search in searches) == len(logits)
    assert not any(search.done for search in searches)
    log_probs = logits.log_softmax(dim=-1)
    first_rows = np.cumsum([0, *(search.num_rows for search in searches)]).tolist()[:-1]
    _penalize(searches, first_rows, log_probs)
    _forbid_stopping(searches, first_rows, log_probs)
    # searches whose tensors have the same shape are computed together
    groups: dict[tuple[int, int, int], tuple[list[BeamSearch], list[int]]] = {}
    for search, first in zip(searches, first_rows, strict=True):
        key = (search.num_rows, search.num_beams, search._candidates)
        members, rows = groups.setdefault(key, ([], []))
        members.append(search)
        rows += range(first, first + search.num_rows)
    for members, rows in groups.values():
        group_log_probs = log_probs
        if len(groups) > 1:
            group_log_probs = log_probs[torch.tensor(rows, device=logits.device)]
        _extend(members, *_best_continuations(members, group_log_probs))


def _penalize(searches: Sequence[BeamSearch], first_rows: Sequence[int], log_probs: torch.Tensor) -> None:
    rows, tokens, penalties = [], [], []
    for search, first in zip(searches, first_rows, strict=True):
        if search.options.repetition_penalty != 1.0:
            ids = search._rows_of_ids()
            tokens.append(ids.ravel())
            rows.append(np.repeat(np.arange(first, first + len(ids)), ids.shape[1]))
            penalties.append(np.full(ids.size, search.options.repetition_penalty, dtype=np.float32))
    if tokens:
        columns = (torch.from_numpy(np.concatenate(parts)) for parts in (rows, tokens, penalties))
        apply_repetition_penalty(log_probs, *columns)


def _forbid_stopping(searches: Sequence[BeamSearch], first_rows: Sequence[int], log_probs: torch.Tensor) -> None:
    """Exclude stop tokens as the first token, so that no answer is empty."""
    for search, first in zip(searches, first_rows, strict=True):
        if search._stop and not search.length:
            log_probs[first, torch.tensor(sorted(search._stop))] = -torch.inf


def _best_continuations(
    searches: Sequence[BeamSearch], log_probs: torch.Tensor
) -> tuple[torch.Tensor, list[list[int]], list[list[int]]]:
    """The best continuations of searches of one shape: scores, beams and tokens, each (searches, candidates)."""
    search, vocabulary = searches[0], log_probs.shape[1]
    scores = log_probs.view(len(searches), search.num_rows, vocabulary)
    if search.length:
        scores += torch.stack([search._scores for search in searches]).to(scores.device)[:, :, None]
    elif vocabulary < PARTIAL_SORT_FACTOR * search._candidates:
        # `generate` starts with `num_beams` equal beams and excludes all but one
        others = (scores + EXCLUDED).expand(-1, search.num_beams - 1, -1)
        scores = torch.cat([scores, others], dim=1)
    values, indices = scores.flatten(1).topk(search._candidates)
    beams = indices // vocabulary if search.length else torch.zeros_like(indices)
    return values.cpu(), beams.tolist(), (indices % vocabulary).tolist()


def _extend(
    searches: Sequence[BeamSearch], scores: torch.Tensor, beams: list[list[int]], tokens: list[list[int]]
) -> None:
    """The best continuations that do not end become the next beams; the best that end are kept as completed."""
    width = searches[0].num_beams
    for search in searches:
        search.length += 1
    ends = torch.tensor(
        [
            [search.length >= search.options.max_new_tokens or token in search._stop for token in row]
            for search, row in zip(searches, tokens, strict=True)
        ]
    )
    divisors = torch.tensor([search._divisor for search in searches], dtype=torch.float32)[:, None]
    # 1. The next beams: the best continuations that do not end.
    running_scores = scores + ends * EXCLUDED
    next_beams = running_scores.topk(width)[1]
    running_scores = running_scores.gather(1, next_beams)

    # 2. The completed beams: the best of those so far and of the continuations that end. Only the best `width`
    #    continuations may end; the others are candidates only so that enough go on.
    completes = ends.clone()
    completes[:, width:] = False
    earlier_scores = torch.stack([search._completed_scores for search in searches])
    completed_scores = torch.cat([earlier_scores, scores / divisors + ~completes * EXCLUDED], dim=1)
    is_completed = torch.cat([torch.stack([search._is_completed for search in searches]), completes], dim=1)
    best = completed_scores.topk(width)[1]
    completed_scores, is_completed = completed_scores.gather(1, best), is_completed.gather(1, best)

    # 3. A search is done once its best beam, ended here, would be no better than its worst completed one.
    worst = torch.where(is_completed, completed_scores.amin(dim=1, keepdim=True), EXCLUDED)
    can_improve = (running_scores[:, :1] / divisors > worst).any(dim=1)
    done = ~can_improve | ends.all(dim=1)
    failed = scores[:, 0].isnan()  # `topk` puts NaN first

    # 4. Store the results in each search.
    columns = (beams, tokens, next_beams.tolist(), best.tolist(), done.tolist(), failed.tolist())
    rows = zip(searches, *columns, strict=True)
    for row, (search, row_beams, row_tokens, row_next, row_best, is_done, is_failed) in enumerate(rows):
        search._completed = [
            search._completed[index] if index < width else _completed(search, row_beams, row_tokens, index - width)
            for index in row_best
        ]
        search._scores, search._completed_scores = running_scores[row], completed_scores[row]
        search._is_completed = is_completed[row]
        search.parents = [row_beams[index] for index in row_next]
        search.tokens = [row_tokens[index] for index in row_next]
        end = search._start + search.length
        search._ids[:, : end - 1] = search._ids[search.parents, : end - 1]
        search._ids[:, end - 1] = search.tokens
        search.done, search.failed = is_done or is_failed, is_failed


def _completed(search: BeamSearch, beams: Sequence[int], tokens: Sequence[int], index: int) -> list[int]:
    """The new tokens of a continuation that ends, without its stop token."""
    ids: list[int] = search._ids[beams[index], search._start : search._start + search.length - 1].tolist()
    return ids if tokens[index] in search._stop else [*ids, tokens[index]]
