"""Answers being written together: each row's own way to choose, and one step of the batch for all of them.

Knows batches and choices; knows no queue and no text beyond prompts. Only one thread at a time may use it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from blip_space.model.batch import batch, stop_tokens
from blip_space.model.choice import Choice
from blip_space.options import GenerationOptions


@dataclass(frozen=True)
class Prompt:
    """What one answer follows: a picture's prefix (1, query_tokens, hidden), a text, and how to choose."""

    prefix: torch.Tensor
    text: str
    options: GenerationOptions


@dataclass(eq=False)
class Row:
    """One answer being written. `ids` are its tokens so far, without the one that ended it."""

    prompt: Prompt
    choice: Choice
    ids: list[int] = field(default_factory=list)
    ended: bool = False
    fault: Exception | None = None
    """What went wrong while a token was chosen; it ends this row alone."""


class Writing:
    """The rows of one language model."""

    def __init__(self, language_model: Any, embed: Callable[[torch.Tensor, str], torch.Tensor]) -> None:
        """`embed` turns a prefix and a text into (length, hidden)."""
        self.rows: list[Row] = []
        self._batch = batch(language_model)
        self._embed = embed
        self._stop = stop_tokens(language_model.generation_config)

    @property
    def nbytes(self) -> int:
        """The size of all rows' keys and values, in bytes."""
        return self._batch.nbytes

    def join(self, prompts: Sequence[Prompt]) -> list[Row]:
        """Read the prompts in one pass and choose each answer's first token; nothing joins when that fails."""
        embedded = [self._embed(prompt.prefix, prompt.text) for prompt in prompts]
        logits = self._batch.join(embedded)
        new = [
            Row(
                prompt,
                Choice(prompt.options, start=self._batch.start, stop=self._stop, device=prompt.prefix.device),
            )
            for prompt in prompts
        ]
        self.rows += new
        self._choose(new, logits)
        return new

    def step(self) -> None:
        """Give every row that has not ended its next token; rows that have ended leave first."""
        self.leave([row for row in self.rows if row.ended])
        if self.rows:
            self._choose(self.rows, self._batch.step([row.ids[-1] for row in self.rows]))

    def leave(self, rows: Sequence[Row]) -> None:
        """Free the places of these rows."""
        gone = {id(row) for row in rows}
        kept = [place for place, row in enumerate(self.rows) if id(row) not in gone]
        if len(kept) < len(self.rows):
            self._batch.keep(kept)
            self.rows = [self.rows[place] for place in kept]

    def _choose(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        for place, row in enumerate(rows):
            try:
                token = row.choice.choose(logits[place : place + 1])
            except Exception as fault:
                row.fault, row.ended = fault, True
                continue
            if token in self._stop:
                row.ended = True
                continue
            row.ids.append(token)
            row.ended = len(row.ids) >= row.prompt.options.max_new_tokens
