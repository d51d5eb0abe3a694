"""A left-aligned batch and one in slots, which must compute the same."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from blip_space.engine.batch import new_batch
from blip_space.engine.batch_interface import Batch
from blip_space.engine.step_graphs import StepGraphs
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import Embedded

TOLERANCE = 1e-3


class BothBatches:
    """Does the same with a left-aligned batch and one in slots, which must compute the same logits."""

    def __init__(self, model: Blip2, graphs: StepGraphs | None = None) -> None:
        self.aligned = new_batch(model.decoder, slots=False)
        self.slots = new_batch(model.decoder, slots=True, graphs=graphs)
        self.tokens: list[int] = []
        self.largest = 0.0

    def prefill(self, prompts: Sequence[Embedded], copies: Sequence[int]) -> None:
        logits = self._same([batch.prefill(prompts, (), copies) for batch in self.pair])
        ids = logits.argmax(-1).tolist()
        self.tokens += [token for token, count in zip(ids, copies, strict=True) for _ in range(count)]

    def decode(self, rng: random.Random) -> None:
        """Decode, and take a random likely token for each row."""
        logits = self._same([batch.decode(self.tokens) for batch in self.pair])
        likely = logits.topk(3)[1].tolist()
        self.tokens = [rng.choice(row) for row in likely]

    def select(self, rows: list[int]) -> None:
        for batch in self.pair:
            batch.select(rows)
        self.tokens = [self.tokens[row] for row in rows]

    @property
    def pair(self) -> tuple[Batch, Batch]:
        return self.aligned, self.slots

    def _same(self, logits: list[torch.Tensor]) -> torch.Tensor:
        aligned, slots = logits
        assert aligned.shape == slots.shape
        self.largest = max(self.largest, float(aligned.abs().max()))
        assert (aligned - slots).abs().max() <= TOLERANCE * max(1.0, self.largest)
        return aligned


def lengthened(prompt: Embedded) -> Embedded:
    """A prompt of more than 64 positions, as with the image of a real model."""
    embeddings = prompt.embeddings.repeat(-(-65 // len(prompt)), 1)
    return Embedded(embeddings, torch.arange(len(embeddings))[None], len(embeddings), prompt.start)
