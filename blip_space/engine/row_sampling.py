"""Gives the rows of a batch their next tokens: by sampling, or by beam search.

Depends on sequences, the sampler and beam search; must not import a batch or run the model.
"""

from __future__ import annotations

from collections.abc import Sequence as List
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blip_space.engine.beam_search import advance
from blip_space.engine.sampling import Choice, Sampler
from blip_space.engine.sequence import FinishReason, Sequence
from blip_space.models.transfer import join_rows, select_rows, to_device

if TYPE_CHECKING:
    import torch

Row = tuple[Sequence, int]
"""A sequence and the index of its beam, 0 without beam search."""


@dataclass(frozen=True)
class Chosen:
    """Sequences and their next tokens, which the host may not have yet."""

    sequences: list[Sequence]
    choice: Choice


@dataclass(frozen=True)
class NextInputs:
    """The inputs of the next decode before the host knows all of them: the ids of rows (rows,) on the device."""

    ids: torch.Tensor
    parts: list[Chosen]
    known: list[int]
    order: list[int]
    """The index of each row in the ids of `parts`, then `known`."""

    ending: set[int]
    """The rows for which this is the last token, so that they have no further decode."""

    def read(self) -> list[int | None]:
        """The ids; waits for the device."""
        ids = [*(token for part in self.parts for token in part.choice.read()), *self.known]
        return [ids[index] for index in self.order]


class RowSampler:
    """Chooses the next tokens of rows. What was chosen is appended later, since the host has to wait for it."""

    def __init__(self, sampler: Sampler, stop: frozenset[int]) -> None:
        """The tokens of `stop` end a sequence."""
        self._sampler, self._stop = sampler, stop

    def choose(self, rows: List[Row], logits: torch.Tensor) -> Chosen | None:
        """Choose the next token of every row without beam search, and advance beam searches; `logits` are (rows,
        vocabulary)."""
        streams = [index for index, (sequence, _) in enumerate(rows) if sequence.beam_search is None]
        chosen = None
        if streams:
            stream_logits = logits if len(streams) == len(rows) else select_rows(logits, streams)
            sequences = [rows[index][0] for index in streams]
            requests = [(sequence.request.options, sequence.ids, sequence.start) for sequence in sequences]
            chosen = Chosen(sequences, self._sampler.choose(stream_logits, requests))
        if len(streams) < len(rows):
            self._advance_beams(rows, logits)
        return chosen

    def append(self, chosen: Chosen) -> None:
        """Append the chosen tokens; waits for the device."""
        for sequence, token in zip(chosen.sequences, chosen.choice.read(), strict=True):
            sequence.append(token, self._stop)

    def next_inputs(self, rows: List[Row], parts: list[Chosen]) -> NextInputs | None:
        """The inputs of the next decode, where `parts` are not appended yet; None if it needs something of the host."""
        tensors = [part.choice.ids for part in parts]
        on_device = [ids for ids in tensors if ids is not None]
        if not on_device or len(on_device) < len(tensors) or any(sequence.uses_beam_search for sequence, _ in rows):
            return None
        chosen = [sequence for part in parts for sequence in part.sequences]
        index = {sequence: number for number, sequence in enumerate(chosen)}
        others = [sequence for sequence, _ in rows if sequence not in index]
        index |= {sequence: len(chosen) + number for number, sequence in enumerate(others)}
        known, order = [sequence.ids[-1] for sequence in others], [index[sequence] for sequence, _ in rows]
        if known:
            on_device.append(to_device(known, on_device[0].device))
        last = {sequence for sequence in chosen if sequence.missing_tokens <= 1}
        ending = {row for row, (sequence, _) in enumerate(rows) if sequence in last}
        return NextInputs(join_rows(on_device, order), parts, known, order, ending)

    def _advance_beams(self, rows: List[Row], logits: torch.Tensor) -> None:
        groups: dict[Sequence, dict[int, int]] = {}
        for index, (sequence, beam) in enumerate(rows):
            if sequence.beam_search is not None:
                groups.setdefault(sequence, {})[beam] = index
        order = [group[beam] for group in groups.values() for beam in sorted(group)]
        beam_logits = logits if order == list(range(len(rows))) else select_rows(logits, order)
        advance([sequence.beam_search for sequence in groups], beam_logits)
        for sequence in groups:
            if sequence.beam_search.failed:
                sequence.append(None, self._stop)
            elif sequence.beam_search.done:
                sequence.ids = sequence.beam_search.best_tokens
                sequence.finish(FinishReason.STOP)


def beam_moves(rows: List[Row]) -> list[tuple[int, int]]:
    """Which rows take the keys and values of which others, so that each beam has those of its parent."""
    indices = {row: index for index, row in enumerate(rows) if row[0].beam_search is not None}
    return [
        (index, indices[sequence, sequence.beam_search.parents[beam]])
        for (sequence, beam), index in indices.items()
        if not sequence.beam_search.done and sequence.beam_search.parents[beam] != beam
    ]
