"""Executes the scheduler's plans: the only module that runs the model for sequences.

Depends on plans, a model, its batch and its caches; must not import serving, and handles no text. An error of one
sequence ends that sequence; every other error is raised, and the batch is unusable after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blip_space.engine.batch import new_batch
from blip_space.engine.batch_interface import Batch
from blip_space.engine.beam_search import BeamSearch
from blip_space.engine.caches import ImageFeatureCache, KeyValues, prefix_cache_bytes
from blip_space.engine.cuda_graphs import fuse, new_step_graphs
from blip_space.engine.image_graphs import ImageGraphs
from blip_space.engine.plan import Plan
from blip_space.engine.prefix_reuse import PrefixReuse, prefix_length
from blip_space.engine.request import EngineConfig, PreparedRequest
from blip_space.engine.row_sampling import Chosen, Row, RowSampler, beam_moves
from blip_space.engine.sampling import Sampler
from blip_space.engine.sequence import Sequence
from blip_space.loading.device import free_bytes
from blip_space.loading.device_errors import is_device_lost
from blip_space.loading.memory import is_out_of_memory
from blip_space.models.interface import check_positions
from blip_space.models.preparation import Prompt
from blip_space.options import GenerationOptions

if TYPE_CHECKING:
    import torch

    from blip_space.models.interface import Embedded

ENCODE = "encode images"
"""What graphs do for images, as part of a sentence."""

IMAGE_MEMORY_SHARE = 0.5
"""How much memory the graphs that encode images may take, as a share of that of the steps' graphs."""

FIRST_QUESTION_TOKENS = (32, 64)
"""The numbers of tokens of first questions whose prefill is captured before the first."""

WARM_UP_IDS = (3, 4, 5, 6)  # which every vocabulary has


class ModelRunner:
    """One model with its batch, its caches and its sampler."""

    def __init__(self, model: Any, config: EngineConfig) -> None:
        """`model` is a `VisionLanguageModel`."""
        self.image_features = ImageFeatureCache(config.image_feature_cache_bytes)
        prefix_bytes = prefix_cache_bytes(free_bytes(model.precision.device))
        self._prefix_reuse = PrefixReuse(prefix_bytes, streams=config.streams)
        self.prefixes = self._prefix_reuse.cache
        self._model = model
        self.graphs = new_step_graphs(model.decoder.device, model.decoder.dtype, enabled=config.graphs)
        fuse(model.decoder, self.graphs, enabled=config.fused)
        self._images = ImageGraphs(model, self.graphs.for_function(ENCODE, IMAGE_MEMORY_SHARE))
        self._slots, self._streams = config.slots, config.streams
        self._batch: Batch = self._new_batch()
        self._sampler = Sampler(model.stop_token_ids)
        self._row_sampler = RowSampler(self._sampler, model.stop_token_ids)
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
        chosen = list[Chosen]()
        try:
            self._compute(plan, chosen)
        finally:  # tokens of a decode are there even if a prefill fails after it
            for part in chosen:
                self._row_sampler.append(part)

    def _compute(self, plan: Plan, chosen: list[Chosen]) -> None:
        """Decode, prefill and launch the next decode; `chosen` gets the chosen tokens, which the host has later."""
        # 3. If a decode was launched, which computes already, take it before rows are added, which it lacks.
        is_launched = self._batch.is_launched
        if is_launched:
            self._decode(chosen)
        # 4. Resume preempted sequences, which decode in this step already.
        new = [sequence for sequence in plan.admitted if not self._resume(sequence)]
        # 5. Decode, unless there is a prefill and the last step decoded: admitted sequences get their first token
        #    without waiting for a decode, and running ones, if someone reads them, wait for one prefill at most.
        self._decoded = is_launched or not (new and (self._decoded or not self._streams))
        if self._rows and self._decoded and not is_launched:
            self._decode(chosen)
        # 6. Prefill new sequences last: their first token comes from the prefill itself.
        if new:
            self._prefill(new, chosen)
        # 7. Launch the next decode, unless the next step should begin with a prefill.
        if self._rows and not plan.admits_more and (inputs := self._row_sampler.next_inputs(self._rows, chosen)):
            self._batch.launch(inputs)

    def uncached_tokens(self, request: PreparedRequest) -> int:
        """How many positions of a prompt would be prefilled now."""
        return self._prefix_reuse.uncached_tokens(request)

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

    def close(self) -> None:
        """Free graphs, caches and the batch, which has the language model's weights; nothing runs afterwards."""
        self.graphs.clear()
        self.clear_caches()
        del self._batch

    def _new_batch(self) -> Batch:
        return new_batch(self._model.decoder, slots=self._slots, graphs=self.graphs)

    def _remove(self, sequences: list[Sequence]) -> None:
        removed = set(sequences)
        for index, (sequence, _) in enumerate(self._rows):
            if sequence in removed:
                self._prefix_reuse.keep(sequence, self._batch, index, on_out_of_memory=self.clear_caches)
        self._drop_rows(removed)

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

    def _prefill(self, sequences: list[Sequence], chosen: list[Chosen]) -> None:
        """Prefill prompts together. If that fails, prefill each alone, so that an error ends only its own sequence."""
        rows = len(self._batch)
        try:
            self._prefill_together(sequences, chosen)
        except Exception as error:
            has_rows = len(self._batch) != rows  # some prompts, of which none must be prefilled again
            if has_rows or is_out_of_memory(error) or is_device_lost(error):
                raise
            if len(sequences) == 1:
                sequences[0].fail(error)
                return
            for sequence in sequences:
                self._prefill([sequence], chosen)

    def _prefill_together(self, sequences: list[Sequence], chosen: list[Chosen]) -> None:
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
        if part := self._row_sampler.choose([(sequence, 0) for sequence in ordered], logits):
            chosen.append(part)

    def _embed(self, sequence: Sequence, features: dict[str, torch.Tensor]) -> tuple[Embedded, KeyValues | None]:
        """The embeddings of a prompt without its cached prefix, and the prefix's keys and values, if any."""
        prompt = sequence.request.prompt
        embedded: Embedded = self._model.embed(prompt, [features[image.key] for image in prompt.images])
        check_positions(embedded, sequence.request.options.max_new_tokens, self._model.decoder.max_positions)
        sequence.start = embedded.start
        cached = self._prefix_reuse.find(sequence.request)
        return embedded.without_prefix(prefix_length(cached) if cached else 0), cached

    def _decode(self, chosen: list[Chosen]) -> None:
        """Decode all rows, and choose the tokens of those without beam search."""
        logits = self._batch.decode([_next_input(*row) for row in self._rows])
        if part := self._row_sampler.choose(self._rows, logits):
            chosen.append(part)
        if moves := beam_moves(self._rows):
            self._batch.reorder(moves)


def _next_input(sequence: Sequence, beam: int) -> int:
    return int(sequence.beam_search.tokens[beam]) if sequence.beam_search else sequence.ids[-1]
