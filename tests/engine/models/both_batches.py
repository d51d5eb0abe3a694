"""A left-aligned batch and one in slots, which must compute the same."""

from __future__ import annotations

import random
from collections.abc import Container, Sequence

import torch

from blip_space.engine.batch import new_batch
from blip_space.engine.batch_interface import Batch
from blip_space.engine.step_graphs import StepGraphs
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import Embedded

TOLERANCE = 1e-3


class Inputs:
    """The inputs of a step to be launched."""

    def __init__(self, device: torch.device, ids: list[int], ending: Container[int] = ()) -> None:
        self.ids, self.ending = torch.tensor(ids, device=device), ending
        self._known = list(ids)

    def read(self) -> list[int]:
        return self._known


class BothBatches:
    """Does the same with a left-aligned batch and one in slots, which must compute the same logits."""

    def __init__(self, model: Blip2, graphs: StepGraphs | None = None) -> None:
        self.aligned = new_batch(model.decoder, slots=False)
        self.slots = new_batch(model.decoder, slots=True, graphs=graphs)
        self.device = model.decoder.device
        self.tokens: list[int] = []
        self.largest = 0.0
        self._preempted: list[tuple[Batch, Batch, int]] = []

    def churn(
        self,
        rng: random.Random,
        prompts: Sequence[Embedded],
        *,
        select: float,
        preempt: float,
        resume: float,
        add: float,
    ) -> None:
        """With these probabilities: remove, repeat and reorder rows, preempt one, resume one, and prefill prompts."""
        if self.tokens and rng.random() < select:
            self.select(rng.choices(range(len(self.tokens)), k=rng.randint(0, len(self.tokens))))
        if self.tokens and rng.random() < preempt:
            row = rng.randrange(len(self.tokens))
            self._preempted.append((self.aligned.copy(row), self.slots.copy(row), self.tokens[row]))
        if self._preempted and rng.random() < resume:
            aligned, slots, token = self._preempted.pop(0)
            self.aligned.merge(aligned)
            self.slots.merge(slots)
            self.tokens.append(token)
        if len(self.tokens) < 9 and rng.random() < add:
            added = sorted(rng.choices(prompts, k=rng.randint(1, 3)), key=len)
            self.prefill(added, [rng.choice((1, 1, 1, 3)) for _ in added])

    def prefill(self, prompts: Sequence[Embedded], copies: Sequence[int]) -> None:
        logits = self._same([batch.prefill(prompts, (), copies) for batch in self.pair])
        ids = logits.argmax(-1).tolist()
        self.tokens += [token for token, count in zip(ids, copies, strict=True) for _ in range(count)]

    def decode(self, rng: random.Random) -> None:
        """Decode, and take a random likely token for each row."""
        logits = self._same([batch.decode(self.tokens) for batch in self.pair])
        likely = logits.topk(3)[1].tolist()
        self.tokens = [rng.choice(row) for row in likely]

    def launch(self, rng: random.Random, *, wrong: float, ending: float) -> None:
        """Launch the next step of the slots; with these probabilities with another token, and for a row that ends."""
        ids = [3 if rng.random() < wrong else token for token in self.tokens]
        ends = {row for row in range(len(ids)) if rng.random() < ending}
        self.slots.launch(Inputs(self.device, ids, ends))

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
    positions = torch.arange(len(embeddings), device=embeddings.device)[None]
    return Embedded(embeddings, positions, len(embeddings), prompt.start)
