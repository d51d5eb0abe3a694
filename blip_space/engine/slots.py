"""A batch in fixed slots: how prompts are prefilled and rows are decoded.

A step is one forward pass over the first slots, whose number is a power of two; an unused slot computes its first
position, and the result is dropped. Prompts are prefilled apart and copied into slots once. A step depends on the
numbers that are copied to the device, and on the buffers only, so it can be captured as a graph. Depends on rows in
slots; must not import requests.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from sys import maxsize

import torch

from blip_space.engine.caches import KeyValues, stacked
from blip_space.engine.graph_comparison import Fused
from blip_space.engine.launched_step import LaunchedStep, NextInputs
from blip_space.engine.padding import MAX_CPU_PADDING, group_by_length
from blip_space.engine.slot_cache import next_power_of_two
from blip_space.engine.slot_prefill import MANY_ROWS, MAX_ROWS, SlotPrefill
from blip_space.engine.slot_rows import UNUSED, Row, SlotRows
from blip_space.engine.step_graphs import StepGraphs, set_ids
from blip_space.models.interface import Embedded
from blip_space.models.transfer import to_device

LAUNCH_EAGER = False
"""Whether steps without a graph are launched ahead as well; for tests."""


class Slots(SlotRows):
    """A batch in fixed slots: what decoder-only and encoder-decoder models have in common."""

    first_capacities: tuple[tuple[int, ...], ...]
    """The capacities that most first and second questions take, one for each cache."""

    def __init__(self, device: torch.device, graphs: StepGraphs, prefill: SlotPrefill) -> None:
        super().__init__(graphs)
        self._device, self._graphs, self._prefill = device, graphs, prefill

    @torch.inference_mode()
    def prefill(
        self, prompts: Sequence[Embedded], cached: Sequence[KeyValues | None] = (), copies: Sequence[int] = ()
    ) -> torch.Tensor:
        self._has_decoded = False
        # 1. Rows in unused slots: several for a prompt with copies.
        cached, copies = cached or [None] * len(prompts), copies or [1] * len(prompts)
        prefixes = [None if part is None else stacked(part) for part in cached]
        rows = [self._new_row(*pair) for pair in zip(prompts, prefixes, strict=True)]
        new = [[row, *(replace(row) for _ in range(count - 1))] for row, count in zip(rows, copies, strict=True)]
        self._assign_slots([row for group in new for row in group])
        # 2. Forward passes. Each overwrites the results of the one before.
        logits = list[torch.Tensor]()
        for part in self._parts(prompts):
            result, *key_values = self._prefill(prompts[part], prefixes[part])
            logits.append(result[: part.stop - part.start].clone())
            for index, row in enumerate(rows[part]):
                self._write(row, index, key_values, prefixes[part][index])
        # 3. Copies, and only then the rows count.
        for cache, _ in self._caches():
            cache.copy([(row.slot, first.slot) for first, *others in new for row in others])
        self._rows += [row for group in new for row in group]
        return torch.cat(logits)

    def _parts(self, prompts: Sequence[Embedded]) -> list[slice]:
        """Adjacent prompts that share a forward pass; see `MAX_CPU_PADDING` and `MANY_ROWS`."""
        is_cpu = self._device.type == "cpu" and not self._prefill.graphs.is_on
        max_padding = MAX_CPU_PADDING if is_cpu else maxsize
        groups = group_by_length([len(prompt) for prompt in prompts], max_padding=max_padding)
        count = MANY_ROWS if len(prompts) >= MANY_ROWS else MAX_ROWS
        return [
            slice(start, min(start + count, group.stop))
            for group in groups
            for start in range(group.start, group.stop, count)
        ]

    @abstractmethod
    def _new_row(self, prompt: Embedded, prefix: torch.Tensor | None) -> Row:
        """The row of a prompt, as yet without a slot."""

    @abstractmethod
    def _write(self, row: Row, index: int, key_values: Sequence[torch.Tensor], prefix: torch.Tensor | None) -> None:
        """Write what was prefilled to a row's slot: the row `index` of `key_values`, which `SlotPrefill` returned."""

    @torch.inference_mode()
    def decode(self, tokens: Sequence[int]) -> torch.Tensor:
        """See `Batch`. The next step may overwrite the logits: copy what is needed longer."""
        launched, self._launched = self._launched, None
        if launched is not None and launched.is_for(self._rows, tokens):
            return self._take(launched)
        columns, buffers = self._advance(tokens), [cache.buffers for cache, _ in self._caches()]
        if self._has_decoded and self._graphs.is_due(len(columns[0]), buffers):
            self._graphs.capture(columns, buffers, self._step, self._fused)
        self._has_decoded = True
        result = self._graphs.replay(columns, buffers)
        if result is None:
            inputs = to_device(columns, self._device)
            result = inputs, self._step(inputs)
        inputs, logits = result
        return self._in_order(logits, inputs[-1, : len(self)])

    @torch.inference_mode()
    def launch(self, inputs: NextInputs) -> None:
        """See `Batch`. Not without a graph: then launching takes longer than computing, and the ids would wait."""
        going_on = {row: (index, row.slot) for index, row in enumerate(self._rows) if index not in inputs.ending}
        if not going_on or any(row.length >= self._cache.capacity for row in self._rows):
            return
        columns, buffers = self._columns([0] * len(self), 0), [cache.buffers for cache, _ in self._caches()]
        for index, row in enumerate(self._rows):
            if index in inputs.ending:  # its next position may be none of the model's
                columns[3][row.slot] = row.next_position - 1
        if self._graphs.has_graph(columns, buffers):
            result = self._graphs.replay(columns, buffers, inputs.ids)
        elif LAUNCH_EAGER:
            numbers = to_device(columns, self._device)
            set_ids(numbers, inputs.ids)
            result = numbers, self._step(numbers)
        else:
            return
        if result is not None:
            self._launched = LaunchedStep(result[1], inputs, going_on)

    @property
    def is_launched(self) -> bool:
        return self._launched is not None

    def _take(self, launched: LaunchedStep) -> torch.Tensor:
        """The logits of a launched step, whose rows are all that there are."""
        self._has_decoded = True
        for row in self._rows:
            row.length += 1
            row.next_position += 1
        slots = launched.slots_of(self._rows)
        if slots == list(range(len(launched.logits))):
            return launched.logits
        return launched.logits.index_select(0, to_device(slots, self._device))

    @abstractmethod
    def _step(self, inputs: torch.Tensor) -> torch.Tensor:
        """The logits of the first slots, from what `_advance` returns, on the device."""

    @property
    @abstractmethod
    def _fused(self) -> Fused | None:
        """What a graph captures rather than `_step`, and what computes the same; None if there is none."""

    @torch.inference_mode()
    def warm_up(self, prompt: Embedded, lengths: Sequence[int] = ()) -> None:
        self.prefill([prompt])  # after which the shapes of keys and values are known
        self.select([])
        for capacities in self.first_capacities:
            self._graphs.request((1, tuple((1, capacity) for capacity in capacities)))
        while self._capture_pending_step():
            pass
        self._prefill.warm_up(lengths)

    @torch.inference_mode()
    def capture_pending(self) -> bool:
        return self._capture_pending_step() or (not self._rows and self._prefill.capture_pending())

    def _capture_pending_step(self) -> bool:
        caches = [cache for cache, _ in self._caches()]
        if self._rows or not all(cache.position_nbytes for cache in caches):
            return False
        shape = self._graphs.next_shape()
        if shape is None:
            return False
        count, sizes = shape
        nbytes = sum(
            cache.position_nbytes * slots * capacity for cache, (slots, capacity) in zip(caches, sizes, strict=True)
        )
        if nbytes > self._graphs.limit_bytes // 2:
            return True
        numbers, prompt_capacity = range(count), sizes[-1][1]
        columns = (
            [3 + number % 5 for number in numbers],
            [(7 + 13 * number) % (sizes[0][1] // 2) for number in numbers],
            [(5 + 11 * number) % (prompt_capacity // 2) for number in numbers],
            [1 + number % 5 for number in numbers],
            list(numbers),
        )
        try:
            for cache, (slots, capacity) in zip(caches, sizes, strict=True):
                cache.fill(slots, capacity)
            self._graphs.capture(columns, [cache.buffers for cache in caches], self._step, self._fused)
        except Exception as error:
            self._graphs.turn_off(error)
        for cache in caches:
            cache.clear()
        return True

    def _advance(self, tokens: Sequence[int]) -> list[list[int]]:
        """Append a position to every row. Returns the step's input, lists with one number per slot: ids, lengths minus
        one, prompt lengths minus one, positions, and the slot of each row, then zeros."""
        for row in self._rows:
            row.length += 1
        self._reserve(len(self._rows), self._rows)
        columns = self._columns(tokens, 1)
        for row in self._rows:
            row.next_position += 1
        return columns

    def _columns(self, tokens: Sequence[int], appended: int) -> list[list[int]]:
        """What `_advance` returns; `appended` is how many of the rows' positions are still to be computed."""
        count = next_power_of_two(1 + max(row.slot for row in self._rows))
        rows, ids = [UNUSED] * count, [0] * count
        for row, token in zip(self._rows, tokens, strict=True):
            rows[row.slot], ids[row.slot] = row, token
        order = [row.slot for row in self._rows]
        return [
            ids,
            [max(0, row.length - appended) for row in rows],
            [row.prompt_length - 1 for row in rows],
            [row.next_position for row in rows],
            order + [0] * (count - len(order)),
        ]

    def _in_order(self, logits: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """The logits in the order of the rows, from logits in the order of the slots."""
        if [row.slot for row in self._rows] == list(range(len(logits))):
            return logits
        return logits.index_select(0, slots)
