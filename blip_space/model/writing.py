"""Answers being written together: each row's own way to choose, and one step of the batch for all of them.

Knows batches and choices; knows no queue and no text beyond prompts. Only one thread at a time may use it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from blip_space.model.batch import Batch, batch
from blip_space.model.choice import Choice
from blip_space.model.turns import Past, TurnCache
from blip_space.options import GenerationOptions


@dataclass(frozen=True)
class Prompt:
    """What one answer follows: a picture's prefix (1, query_tokens, hidden), a text's ids, and how to choose.

    `picture` names the picture where the answer may be gone on from, and `goes_on` says that this is such a later turn.
    """

    prefix: torch.Tensor
    ids: tuple[int, ...]
    options: GenerationOptions
    picture: str = ""
    goes_on: bool = False


@dataclass(eq=False)
class Row:
    """One answer being written. `ids` are its tokens so far, without the one that ended it."""

    prompt: Prompt
    choice: Choice
    ids: list[int] = field(default_factory=list)
    ended: bool = False
    fault: Exception | None = None
    """What went wrong while a token was chosen; it ends this row alone."""


@dataclass(frozen=True)
class Parked:
    """A row that was set aside in the middle of its answer, with everything that it has read."""

    row: Row
    batch: Batch


class Writing:
    """The rows of one language model."""

    def __init__(
        self, language_model: Any, embed: Callable[[Prompt], torch.Tensor], turns: TurnCache, *, stop: frozenset[int]
    ) -> None:
        """`embed` turns a prompt into (length, hidden); the tokens of `stop` end an answer."""
        self.rows: list[Row] = []
        self._batch = batch(language_model)
        self._embed = embed
        self._turns = turns
        self._stop = stop

    @property
    def nbytes(self) -> int:
        """The size of all rows' keys and values, in bytes."""
        return self._batch.nbytes

    def join(self, prompts: Sequence[Prompt]) -> list[Row]:
        """Read the prompts and choose each answer's first token; nothing joins when that fails."""
        unread = [self._unread(prompt) for prompt in prompts]
        order = sorted(range(len(prompts)), key=lambda place: len(unread[place][0]))
        logits = self._batch.join([unread[place][0] for place in order], [unread[place][1] for place in order])
        new = {place: self._row(prompts[place]) for place in order}
        self.rows += new.values()
        self._choose(list(new.values()), logits)
        return [new[place] for place in range(len(prompts))]

    def park(self, row: Row) -> Parked:
        """Set a row aside; it loses nothing, and its place is free."""
        place = next(place for place, other in enumerate(self.rows) if other is row)
        parked = Parked(row, self._batch.copy(place))
        self._drop([row])
        return parked

    def resume(self, parked: Parked) -> None:
        """Go on with a row that was set aside."""
        self._batch.merge(parked.batch)
        self.rows.append(parked.row)

    def step(self) -> None:
        """Give every row that has not ended its next token; rows that have ended leave first."""
        self.leave([row for row in self.rows if row.ended])
        if self.rows:
            self._choose(self.rows, self._batch.step([row.ids[-1] for row in self.rows]))

    def leave(self, rows: Sequence[Row]) -> None:
        """Free the places of these rows; what those that may be gone on from have read is remembered."""
        gone = {id(row) for row in rows}
        for place, row in enumerate(self.rows):
            if id(row) in gone and row.prompt.picture and not row.fault:
                self._remember(place, row)
        self._drop(rows)

    def _drop(self, rows: Sequence[Row]) -> None:
        gone = {id(row) for row in rows}
        kept = [place for place, row in enumerate(self.rows) if id(row) not in gone]
        if len(kept) < len(self.rows):
            last = iter([place for place in kept if place >= len(kept)])
            kept = [place if id(self.rows[place]) not in gone else next(last) for place in range(len(kept))]
            self._batch.keep(kept)
            self.rows = [self.rows[place] for place in kept]

    def _row(self, prompt: Prompt) -> Row:
        choice = Choice(prompt.options, start=self._batch.start, stop=self._stop, device=prompt.prefix.device)
        return Row(prompt, choice)

    def _unread(self, prompt: Prompt) -> tuple[torch.Tensor, Past | None]:
        """What is to be read of a prompt, embedded, and the keys and values of what was read of it before."""
        embedded, past = self._embed(prompt), None
        if prompt.goes_on:
            past = self._turns.longest(prompt.picture, prompt.ids, query_tokens=prompt.prefix.shape[1])
        return embedded[past[0][0].shape[1] if past else 0 :], past

    def _remember(self, place: int, row: Row) -> None:
        """Keep what a row has read, which is all but the last token that was chosen."""
        past = self._batch.past(place)
        if past:
            read = past[0][0].shape[1] - row.prompt.prefix.shape[1]
            self._turns.put(row.prompt.picture, [*row.prompt.ids, *row.ids][:read], past)

    def _choose(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        likeliest = logits.argmax(dim=-1).tolist()  # of all rows at once
        for place, row in enumerate(rows):
            try:
                token = row.choice.choose(logits[place : place + 1], likeliest=likeliest[place])
            except Exception as fault:
                row.fault, row.ended = fault, True
                continue
            if token in self._stop:
                row.ended = True
                continue
            row.ids.append(token)
            row.ended = len(row.ids) >= row.prompt.options.max_new_tokens
