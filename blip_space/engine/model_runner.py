"""Executes the scheduler's plans: the only module that runs the model for sequences.

Depends on plans, a model, its batch and its caches; must not import serving, and handles no text. An error of one
sequence ends that sequence; every other error is raised, and the batch is unusable after it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from blip_space.engine.batch import new_batch
from blip_space.engine.batch_interface import Batch
from blip_space.engine.beam_search import BeamSearch, advance
from blip_space.engine.caches import ImageFeatureCache, KeyValues, PrefixCache, prefix_cache_bytes
from blip_space.engine.cuda_graphs import fuse, new_step_graphs
from blip_space.engine.image_graphs import ImageGraphs
from blip_space.engine.request import EngineConfig, PreparedRequest
from blip_space.engine.sampling import Choice, Sampler
from blip_space.engine.scheduler import Plan
from blip_space.engine.sequence import FinishReason, Sequence
from blip_space.loading.device import free_bytes
from blip_space.loading.device_errors import is_device_lost
from blip_space.loading.memory import is_out_of_memory
from blip_space.models.interface import check_positions
from blip_space.models.preparation import Prompt
from blip_space.models.transfer import select_rows
from blip_space.options import GenerationOptions

if TYPE_CHECKING:
    import torch

    from blip_space.models.interface import Embedded

log = logging.getLogger(__name__)

ENCODE = "encode images"
"""What graphs do for images, as part of a sentence."""

IMAGE_MEMORY_SHARE = 0.5
"""How much memory the graphs that encode images may take, as a share of that of the steps' graphs."""

FIRST_QUESTION_TOKENS = (32, 64)
"""The numbers of tokens of first questions whose prefill is captured before the first."""

WARM_UP_IDS = (3, 4, 5, 6)  # which every vocabulary has

Row = tuple[Sequence, int]
"""A sequence and the index of its beam, 0 without beam search."""

Chosen = tuple[list[Sequence], Choice]
"""Sequences and their next tokens."""


class ModelRunner:
    """One model with its batch, its caches and its sampler."""

    def __init__(self, model: Any, config: EngineConfig) -> None:
        """`model` is a `VisionLanguageModel`."""
        self.image_features = ImageFeatureCache(config.image_feature_cache_bytes)
        self.prefixes = PrefixCache(prefix_cache_bytes(free_bytes(model.precision.device)))
        self._model = model
        self.graphs = new_step_graphs(model.decoder.device, model.decoder.dtype, enabled=config.graphs)
        fuse(model.decoder, self.graphs, enabled=config.fused)
        self._images = ImageGraphs(model, self.graphs.for_function(ENCODE, IMAGE_MEMORY_SHARE))
        self._slots, self._streams = config.slots, config.streams
        self._batch: Batch = self._new_batch()
        self._sampler = Sampler(model.stop_token_ids)
        self._rows: list[Row] = []
        self._decoded = True  # whether the last step did

    def run(self, plan: Plan) -> None:
        """Execute a plan: append at most one token to every running and every admitted sequence."""
        # 1. Remove finished rows and cache their prefixes, which a prefill of this step may need already.
        if plan.removed:
            self._remove(plan.removed)
        # 2. Preempt and discard rows, so that the memory is free before others take it.
        if plan.preempted or plan.discarded:
            self._preempt(plan)
        # 3. If a decode was launched, which computes already, take it before rows are added, which it lacks.
        is_launched = self._batch.is_launched
        chosen = self._decode(launch=not plan.admitted) if is_launched else None
        # 4. Resume preempted sequences, which decode in this step already.
        new = [sequence for sequence in plan.admitted if not self._resume(sequence)]
        # 5. Decode, unless there is a prefill and the last step decoded: admitted sequences get their first token
        #    without waiting for a decode, and running ones, if someone reads them, wait for one prefill at most.
        self._decoded = is_launched or not (new and (self._decoded or not self._streams))
        if self._rows and self._decoded and not is_launched:
            chosen = self._decode(launch=not new)
        # 6. Prefill new sequences last: their first token comes from the prefill itself. The tokens of the decode are
        #    awaited after it, and are there even if it fails.
        try:
            if new:
                self._prefill(new)
        finally:
            if chosen:
                self._append(*chosen)

    def uncached_tokens(self, request: PreparedRequest) -> int:
        """How many positions of a prompt would be prefilled now."""
        prompt, cached = request.prompt, 0
        if self._may_have_prefix(request):
            cached = self.prefixes.cached_positions(prompt.prefix_key, at_least=prompt.min_prefix_length)
        return len(prompt) - cached

    def reserved_positions(self, rows: int, longest: int) -> int:
        """How many positions the buffers allocate for `rows` rows, of which the longest has `longest` positions."""
        return self._batch.reserved_positions(rows, longest)

    def warm_up(self) -> None:
        """Capture the graphs of one image and of decode steps of one row, if there are graphs; a failure turns those of
        images or of steps off. Without streams no user waits for a first answer."""
        if not (self.graphs.is_on and self._streams):
            return
        self._images.warm_up()
        try:
            image_positions = self._model.preparation.image_positions(0, 0, GenerationOptions())
            lengths = [image_positions + words for words in FIRST_QUESTION_TOKENS]
            self._batch.warm_up(self._model.embed(Prompt("", WARM_UP_IDS, ()), []), lengths)
        except Exception as error:
            self.graphs.turn_off(error)
            self.reset()

    def capture_pending(self) -> bool:
        """See `Batch`."""
        return self._batch.capture_pending() or self._images.capture_pending()

    @property
    def graph_status(self) -> str:
        """Whether steps are captured, and why not; and the same of what is done without graphs because they failed."""
        failed = (graphs for graphs in self.graphs.functions if graphs.has_failed)
        return "; ".join([self.graphs.status, *(f"to {graphs.name}: {graphs.status}" for graphs in failed)])

    @property
    def graph_bytes(self) -> int:
        """The size of all graphs, and of what only they hold."""
        return self.graphs.nbytes + sum(graphs.nbytes for graphs in self.graphs.functions)

    def reset(self) -> None:
        """Drop all rows."""
        self.graphs.clear()
        self._batch, self._rows = self._new_batch(), []

    def clear_caches(self) -> None:
        """Free the memory of image features and prefixes."""
        self.image_features.clear()
        self.prefixes.clear()

    def _new_batch(self) -> Batch:
        return new_batch(self._model.decoder, slots=self._slots, graphs=self.graphs)

    def _remove(self, sequences: list[Sequence]) -> None:
        removed = set(sequences)
        for index, (sequence, _) in enumerate(self._rows):
            if sequence in removed:
                self._cache_prefix(index, sequence)
        self._drop_rows(removed)

    def _cache_prefix(self, index: int, sequence: Sequence) -> None:
        """Cache a finished stream's keys and values, which exist for all but its last token, unless memory runs out."""
        is_continued = self._streams and not sequence.is_background
        if not is_continued or sequence.uses_beam_search or sequence.finish_reason is FinishReason.FAILED:
            return
        try:
            key_values = self._batch.key_values(index)
            if key_values:
                length = _length(key_values)
                self.prefixes.put([*sequence.request.prompt.prefix_key, *sequence.ids][:length], key_values)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("out of memory while a prefix was cached: the caches are cleared")
            self.clear_caches()

    def _preempt(self, plan: Plan) -> None:
        for sequence in plan.preempted:
            sequence.saved_row = self._batch.copy(self._rows.index((sequence, 0)))
        self._drop_rows({*plan.preempted, *plan.discarded})

    def _drop_rows(self, sequences: set[Sequence]) -> None:
        """Remove the rows of `sequences`. The last rows move to the indices of removed ones, so that few are copied."""
        kept = [index for index, (sequence, _) in enumerate(self._rows) if sequence not in sequences]
        if len(kept) == len(self._rows):
            return
        in_place = set(kept)
        moved = iter([index for index in kept if index >= len(kept)])
        rows = [index if index in in_place else next(moved) for index in range(len(kept))]
        self._batch.select(rows)
        self._rows = [self._rows[index] for index in rows]

    def _resume(self, sequence: Sequence) -> bool:
        """Add the saved row of a preempted sequence to the batch again; returns False for a new sequence."""
        if sequence.saved_row is None:
            return False
        self._batch.merge(sequence.saved_row)
        self._rows.append((sequence, 0))
        sequence.saved_row = None
        return True

    def _prefill(self, sequences: list[Sequence]) -> None:
        """Prefill prompts together. If that fails, prefill each alone, so that an error ends only its own sequence."""
        rows = len(self._batch)
        try:
            self._prefill_together(sequences)
        except Exception as error:
            has_rows = len(self._batch) != rows  # some prompts, of which none must be prefilled again
            if has_rows or is_out_of_memory(error) or is_device_lost(error):
                raise
            if len(sequences) == 1:
                sequences[0].fail(error)
                return
            for sequence in sequences:
                self._prefill([sequence])

    def _prefill_together(self, sequences: list[Sequence]) -> None:
        requests = (sequence.request for sequence in sequences)
        images = (
            (image.key, pixels)
            for request in requests
            for image, pixels in zip(request.prompt.images, request.pixels, strict=True)
        )
        features = self.image_features.get_or_encode(images, self._images.encode)
        items = [(sequence, *self._embed(sequence, features)) for sequence in sequences]
        items.sort(key=lambda item: len(item[1]))  # so that prompts of similar length share a forward pass
        ordered, prompts, cached = (list(column) for column in zip(*items, strict=True))
        logits = self._batch.prefill(prompts, cached, [sequence.num_rows for sequence in ordered])
        for sequence in ordered:
            if sequence.uses_beam_search:
                options = sequence.request.options
                sequence.beam_search = BeamSearch(options, stop=self._model.stop_token_ids, start=sequence.start)
        self._rows += [(sequence, beam) for sequence in ordered for beam in range(sequence.num_rows)]
        self._sample([(sequence, 0) for sequence in ordered], logits)

    def _embed(self, sequence: Sequence, features: dict[str, torch.Tensor]) -> tuple[Embedded, KeyValues | None]:
        """The embeddings of a prompt without its cached prefix, and the prefix's keys and values, if any."""
        prompt, cached = sequence.request.prompt, None
        embedded: Embedded = self._model.embed(prompt, [features[image.key] for image in prompt.images])
        check_positions(embedded, sequence.request.options.max_new_tokens, self._model.decoder.max_positions)
        sequence.start = embedded.start
        if self._may_have_prefix(sequence.request):
            cached = self.prefixes.get(prompt.prefix_key, at_least=prompt.min_prefix_length)
        return embedded.without_prefix(_length(cached) if cached else 0), cached

    def _may_have_prefix(self, request: PreparedRequest) -> bool:
        return request.continues_conversation and request.options.quality == "stream"

    def _decode(self, *, launch: bool) -> Chosen | None:
        """Decode all rows, and choose the tokens of those without beam search. If `launch`, launch the next decode with
        these tokens if it needs nothing of the host."""
        chosen = self._choose(self._rows, self._batch.decode([_next_input(*row) for row in self._rows]))
        if launch and chosen and len(chosen[0]) == len(self._rows):
            sequences, choice = chosen
            if choice.ids is not None:
                ending = {index for index, sequence in enumerate(sequences) if sequence.missing_tokens <= 1}
                self._batch.launch(choice.ids, choice, ending)
        return chosen

    def _sample(self, rows: list[Row], logits: torch.Tensor) -> None:
        """Give every row its next token; `logits` are (rows, vocabulary)."""
        if chosen := self._choose(rows, logits):
            self._append(*chosen)

    def _choose(self, rows: list[Row], logits: torch.Tensor) -> Chosen | None:
        """Choose the next token of every row without beam search, and advance beam searches."""
        streams = [index for index, (sequence, _) in enumerate(rows) if sequence.beam_search is None]
        chosen = None
        if streams:
            stream_logits = logits if len(streams) == len(rows) else select_rows(logits, streams)
            sequences = [rows[index][0] for index in streams]
            requests = [(sequence.request.options, sequence.ids, sequence.start) for sequence in sequences]
            chosen = sequences, self._sampler.choose(stream_logits, requests)
        if len(streams) < len(rows):
            self._advance_beams(rows, logits)
        return chosen

    def _append(self, sequences: list[Sequence], choice: Choice) -> None:
        """Append the chosen tokens; waits for the device."""
        for sequence, token in zip(sequences, choice.read(), strict=True):
            sequence.append(token, self._model.stop_token_ids)

    def _advance_beams(self, rows: list[Row], logits: torch.Tensor) -> None:
        groups: dict[Sequence, dict[int, int]] = {}
        for index, (sequence, beam) in enumerate(rows):
            if sequence.beam_search is not None:
                groups.setdefault(sequence, {})[beam] = index
        order = [group[beam] for group in groups.values() for beam in sorted(group)]
        beam_logits = logits if order == list(range(len(rows))) else select_rows(logits, order)
        advance([sequence.beam_search for sequence in groups], beam_logits)
        for sequence in groups:
            if sequence.beam_search.failed:
                sequence.append(None, self._model.stop_token_ids)
            elif sequence.beam_search.done:
                sequence.ids = sequence.beam_search.best_tokens
                sequence.finish(FinishReason.STOP)
        if rows is self._rows:
            self._reorder_beams()

    def _reorder_beams(self) -> None:
        """Give every beam the keys and values of its parent."""
        indices = {row: index for index, row in enumerate(self._rows) if row[0].beam_search is not None}
        moves = [
            (index, indices[sequence, sequence.beam_search.parents[beam]])
            for (sequence, beam), index in indices.items()
            if not sequence.beam_search.done and sequence.beam_search.parents[beam] != beam
        ]
        if moves:
            self._batch.reorder(moves)


def _next_input(sequence: Sequence, beam: int) -> int:
    return int(sequence.beam_search.tokens[beam]) if sequence.beam_search else sequence.ids[-1]


def _length(key_values: KeyValues) -> int:
    return key_values[0][0].shape[1]
