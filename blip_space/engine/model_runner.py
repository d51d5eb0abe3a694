"""A plan becomes tensors, and tensors become tokens: the one place that calls the model for sequences.

Depends on a model, its batch and its caches; must not import the scheduler or anything of text. What goes wrong for
one sequence ends that one; everything else is raised, and the batch is then of no more use.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence as List
from typing import TYPE_CHECKING, Any

from blip_space.engine.batch import new_batch
from blip_space.engine.batch_interface import Batch
from blip_space.engine.beam_search import BeamSearch, advance
from blip_space.engine.caches import ImageFeatureCache, PrefixCache, prefix_cache_bytes
from blip_space.engine.request import EngineConfig, PreparedRequest
from blip_space.engine.sampling import Sampler
from blip_space.engine.scheduler import Plan
from blip_space.engine.sequence import FinishReason, Sequence
from blip_space.loading.device import free_bytes
from blip_space.loading.memory import is_out_of_memory
from blip_space.models.transfer import select_rows

if TYPE_CHECKING:
    import torch

    from blip_space.models.interface import Embedded

log = logging.getLogger(__name__)

Row = tuple[Sequence, int]
"""A sequence, and which of its beams; 0 where it has none."""


class ModelRunner:
    """One model with the batch that runs on it."""

    def __init__(self, model: Any, config: EngineConfig) -> None:
        """`model` is a `VisionLanguageModel`."""
        self.image_features = ImageFeatureCache(config.image_feature_cache_bytes)
        self.prefixes = PrefixCache(prefix_cache_bytes(free_bytes(model.precision.device)))
        self._model = model
        self._slots = config.slots
        self._batch: Batch = self._new_batch()
        self._sampler = Sampler(model.stop_token_ids)
        self._rows: list[Row] = []
        self._decodes = True
        """Whether the last step decoded: a prefill may take the place of every second decode, so that those who are
        admitted see their first token without waiting for a decode, and those who run wait for one prefill at most."""

    def run(self, plan: Plan) -> None:
        """Do what the plan says; the sequences get their tokens."""
        if plan.removed:
            self._remove(plan.removed)
        if plan.preempted or plan.discarded:
            self._preempt(plan)
        new = [sequence for sequence in plan.admitted if not self._resume(sequence)]
        self._decodes = not (new and self._decodes)
        if self._rows and self._decodes:
            tokens = [
                one.ids[-1] if one.beam_search is None else one.beam_search.tokens[beam] for one, beam in self._rows
            ]
            self._choose(self._rows, self._batch.decode(tokens))
        if new:
            self._prefill(new)

    def uncached_tokens(self, request: PreparedRequest) -> int:
        """How many positions of its prompt are to be prefilled now."""
        prompt, cached = request.prompt, 0
        if self._continues(request):
            cached = self.prefixes.cached_positions(prompt.prefix_key, at_least=prompt.min_prefix_length)
        return len(prompt) - cached

    def reserved_positions(self, rows: int, longest: int) -> int:
        """How many positions the buffers of so many rows have, the longest of which has that many."""
        return self._batch.reserved_positions(rows, longest)

    def reset(self) -> None:
        """Drop all rows."""
        self._batch, self._rows = self._new_batch(), []

    def clear_caches(self) -> None:
        """Free what was only kept because it might be asked again."""
        self.image_features.clear()
        self.prefixes.clear()

    def _new_batch(self) -> Batch:
        return new_batch(self._model.decoder, slots=self._slots)

    def _remove(self, sequences: List[Sequence]) -> None:
        gone = set(sequences)
        for index, (sequence, _) in enumerate(self._rows):
            if sequence in gone:
                self._remember(index, sequence)
        self._select([index for index, (sequence, _) in enumerate(self._rows) if sequence not in gone])

    def _remember(self, index: int, sequence: Sequence) -> None:
        """Keep what a stream has read, which is all but the last token that was chosen; an answer that there is no
        memory for is not kept."""
        if sequence.uses_beam_search or sequence.finish_reason is FinishReason.FAILED:
            return
        try:
            key_values = self._batch.key_values(index)
            if key_values:
                read = key_values[0][0].shape[1]
                self.prefixes.put([*sequence.request.prompt.prefix_key, *sequence.ids][:read], key_values)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("memory ran out while an answer was kept for the next question; what was kept is forgotten")
            self.clear_caches()

    def _preempt(self, plan: Plan) -> None:
        for sequence in plan.preempted:
            sequence.saved_row = self._batch.copy(self._rows.index((sequence, 0)))
        gone = {*plan.preempted, *plan.discarded}
        self._select([index for index, (sequence, _) in enumerate(self._rows) if sequence not in gone])

    def _select(self, kept: list[int]) -> None:
        """Keep these rows; the last of them take the places of removed ones, so that few are copied."""
        if len(kept) == len(self._rows):
            return
        staying = set(kept)
        last = iter([index for index in kept if index >= len(kept)])
        rows = [index if index in staying else next(last) for index in range(len(kept))]
        self._batch.select(rows)
        self._rows = [self._rows[index] for index in rows]

    def _resume(self, sequence: Sequence) -> bool:
        """Give a preempted sequence its row again; False for one that has not begun."""
        if sequence.saved_row is None:
            return False
        self._batch.merge(sequence.saved_row)
        self._rows.append((sequence, 0))
        sequence.saved_row = None
        return True

    def _prefill(self, sequences: List[Sequence]) -> None:
        """Read the prompts together; where that fails, each alone, so that a fault ends its own sequence only."""
        if not sequences:
            return
        rows = len(self._batch)
        try:
            self._read(sequences)
        except Exception as error:
            if is_out_of_memory(error) or len(self._batch) != rows:  # some of them have rows already
                raise
            if len(sequences) == 1:
                sequences[0].fail(error)
                return
            for sequence in sequences:
                self._prefill([sequence])

    def _read(self, sequences: List[Sequence]) -> None:
        requests = (sequence.request for sequence in sequences)
        images = (
            (image.key, pixels)
            for request in requests
            for image, pixels in zip(request.prompt.images, request.pixels, strict=True)
        )
        features = self.image_features.get_or_encode(images, self._model.encode_images)
        unread = [(sequence, *self._unread(sequence, features)) for sequence in sequences]
        unread.sort(key=lambda item: len(item[1]))
        ordered, prompts, cached = (list(column) for column in zip(*unread, strict=True))
        logits = self._batch.prefill(prompts, cached, [sequence.num_rows for sequence in ordered])
        for sequence in ordered:
            if sequence.uses_beam_search:
                options = sequence.request.options
                sequence.beam_search = BeamSearch(options, stop=self._model.stop_token_ids, start=sequence.start)
        self._rows += [(sequence, beam) for sequence in ordered for beam in range(sequence.num_rows)]
        self._choose([(sequence, 0) for sequence in ordered], logits)

    def _unread(self, sequence: Sequence, features: dict[str, torch.Tensor]) -> tuple[Embedded, Any]:
        """What is to be read of a prompt, embedded, and the keys and values of what was read of it before."""
        prompt, cached = sequence.request.prompt, None
        embedded: Embedded = self._model.embed(prompt, [features[image.key] for image in prompt.images])
        sequence.start = embedded.start
        if self._continues(sequence.request):
            cached = self.prefixes.get(prompt.prefix_key, at_least=prompt.min_prefix_length)
        return embedded.without_prefix(cached[0][0].shape[1] if cached else 0), cached

    def _continues(self, request: PreparedRequest) -> bool:
        """Whether keys and values of an earlier turn may be there."""
        return request.continues_conversation and request.options.quality == "stream"

    def _choose(self, rows: List[Row], logits: torch.Tensor) -> None:
        """The next token of every row, whose logits are (rows, vocabulary)."""
        streams = [index for index, (sequence, _) in enumerate(rows) if sequence.beam_search is None]
        if streams:
            own = logits if len(streams) == len(rows) else select_rows(logits, streams)
            sequences = [rows[index][0] for index in streams]
            requests = [(sequence.request.options, sequence.ids, sequence.start) for sequence in sequences]
            tokens = self._sampler.sample(own, requests)
            for sequence, token in zip(sequences, tokens, strict=True):
                sequence.append(token, self._model.stop_token_ids)
        if len(streams) < len(rows):
            self._advance_beams(rows, logits)

    def _advance_beams(self, rows: List[Row], logits: torch.Tensor) -> None:
        groups: dict[Sequence, dict[int, int]] = {}
        for index, (sequence, beam) in enumerate(rows):
            if sequence.beam_search is not None:
                groups.setdefault(sequence, {})[beam] = index
        order = [group[beam] for group in groups.values() for beam in sorted(group)]
        advance(
            [sequence.beam_search for sequence in groups],
            logits if order == list(range(len(rows))) else select_rows(logits, order),
        )
        for sequence in groups:
            if sequence.beam_search.failed:
                sequence.append(None, self._model.stop_token_ids)
            elif sequence.beam_search.done:
                sequence.ids = sequence.beam_search.best_tokens
                sequence.finish(FinishReason.STOP)
        if rows is self._rows:
            self._reorder()

    def _reorder(self) -> None:
        """Give every beam the keys and values of the beam that it goes on from."""
        place = {row: index for index, row in enumerate(self._rows) if row[0].beam_search is not None}
        moves = [
            (index, place[sequence, sequence.beam_search.parents[beam]])
            for (sequence, beam), index in place.items()
            if not sequence.beam_search.done and sequence.beam_search.parents[beam] != beam
        ]
        if moves:
            self._batch.reorder(moves)
