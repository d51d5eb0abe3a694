"""`python -m benchmarks.exactness`: every family, both ways to execute, against transformers on the same weights.

72 requests arrive at random at one engine core: greedy, beam searches, samples and later turns that go on from kept
keys and values, about two images, with preemptions. Greedy tokens and logits and beam searches are compared with
transformers' `generate` of the whole network for that request alone; samples and later turns with the answer alone.
Small checkpoints with random weights in fp32. Prints a table; the exit code is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from blip_space.catalogue import read_folder
from blip_space.engine.core import EngineCore
from blip_space.engine.request import PreparedRequest
from blip_space.loading.loader import load_model
from blip_space.loading.selftest import make_test_images
from blip_space.models.interface import VisionLanguageModel
from blip_space.models.preparation import PLACEHOLDER
from blip_space.options import GenerationOptions
from tests.checkpoints import blip2, llava
from tests.engine.models.driving import add, finish, make_core, make_request

WRITERS: dict[str, Callable[[Path], Path]] = {
    **{name: partial(blip2.write, language_model=name) for name in blip2.LANGUAGE_MODELS},
    "llava (CLIP)": partial(llava.write, vision="clip"),
    "llava (SigLIP)": partial(llava.write, vision="siglip"),
}
KINDS = ("greedy", "beams", "sampled", "later turn")
WORDS = ("how", "many", "cats", "are", "there?", "two", "blau", "a photo of", "on the", "red mat.")
TOLERANCE = 1e-3


@dataclass
class Row:
    """What was found of one family and way: requests that are equal by kind, the largest difference of
    logits, and the largest logit."""

    equal: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    difference: float = 0.0
    largest: float = 0.0
    hits: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether everything agrees."""
        return self.equal == self.asked and self.difference <= TOLERANCE * max(1.0, self.largest)


def main() -> int:
    """Write, load, run, compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exactness", description=__doc__)
    parser.add_argument("--requests", type=int, default=72)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    print(f"| family | way | equal | {' | '.join(KINDS)} | logits differ by | largest logit | prefix hits |")
    print(f"|---|---|--:|{'--:|' * len(KINDS)}--:|--:|--:|")
    is_exact = True
    with tempfile.TemporaryDirectory() as place:
        for name, write in WRITERS.items():
            model = load_model(read_folder(write(Path(place) / name)), "fp32")
            for way, slots in (("left-aligned", False), ("slots", True)):
                row = compare(model, slots=slots, requests=given.requests, seed=given.seed)
                is_exact = is_exact and row.is_exact
                print(f"| {name} | {way} | {_cells(row)} |", flush=True)
    return int(not is_exact)


def compare(model: VisionLanguageModel, *, slots: bool, requests: int, seed: int) -> Row:
    """Run the requests together and compare each."""
    rng = random.Random(seed)
    asked = [make(model, KINDS[number % len(KINDS)], rng) for number in range(requests)]
    core = make_core(model, slots=slots, max_batch_size=6, time_slice_tokens=3)
    logits = record_logits(core)
    waiting, running, now = list(range(requests)), dict[int, Any](), 0.0
    while waiting or core.has_work:
        while waiting and rng.random() < 0.4:
            number = waiting.pop(0)
            running[number] = add(core, asked[number][1])
        now += 1.0
        core.step(now)
    row = Row(hits=core.prefix_hits)
    for number, (kind, one) in enumerate(asked):
        row.asked[kind] += 1
        expected, scores = reference(model, one) if kind in ("greedy", "beams") else alone(model, one)
        row.equal[kind] += running[number].ids == expected
        if kind != "beams":
            own = torch.stack(logits[running[number].id])[: len(scores)]
            row.difference = max(row.difference, float((own - scores[: len(own)]).abs().max()))
            row.largest = max(row.largest, float(own.abs().max()))
    return row


def make(model: VisionLanguageModel, kind: str, rng: random.Random) -> tuple[str, PreparedRequest]:
    """A request of that kind with a prompt of any length."""
    place = rng.randrange(2)
    options = GenerationOptions(
        max_new_tokens=rng.randint(2, 14),
        temperature=rng.choice((0.7, 1.5)) if kind == "sampled" else 0.0,
        repetition_penalty=1.3 if kind == "sampled" else 1.0,
        seed=rng.randrange(9),
        quality="best" if kind == "beams" else "stream",
        num_beams=rng.choice((2, 4)),
    )
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))
    one = make_request(model, make_test_images()[place], text, options, digest=str(place), turns=kind == "later turn")
    return kind, one


def record_logits(core: EngineCore) -> dict[int, list[torch.Tensor]]:
    """From here on what each sequence's tokens were chosen from, by the sequence's id; of beams nothing."""
    found: dict[int, list[torch.Tensor]] = {}
    runner, sample = core._runner, core._runner._sample

    def recording(rows: list[Any], logits: torch.Tensor) -> None:
        for (sequence, _), own in zip(rows, logits, strict=True):
            if sequence.beam_search is None:
                found.setdefault(sequence.id, []).append(own.clone())
        sample(rows, logits)

    runner._sample = recording  # type: ignore[method-assign]
    return found


def alone(model: VisionLanguageModel, one: PreparedRequest) -> tuple[list[int], torch.Tensor]:
    """What a request is answered without any other and without what was kept, and the logits of its tokens."""
    core = make_core(model, slots=False)
    logits = record_logits(core)
    sequence = add(core, replace(one, continues_conversation=False))
    finish(core)
    return sequence.ids, torch.stack(logits[sequence.id])


def reference(model: VisionLanguageModel, one: PreparedRequest) -> tuple[list[int], torch.Tensor]:
    """What transformers' `generate` gives for the request alone, on the whole network, and its raw logits."""
    network, options = model._hf_model, one.options
    image_token = network.config.image_token_index
    ids = torch.tensor([[image_token if token == PLACEHOLDER else token for token in one.prompt.ids]])
    with torch.inference_mode():
        output = network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=torch.cat(list(one.pixels)),
            do_sample=False,
            num_beams=options.num_beams if options.quality == "best" else 1,
            length_penalty=options.length_penalty,
            min_new_tokens=1,
            max_new_tokens=options.max_new_tokens,
            eos_token_id=sorted(model.stop_token_ids) or None,
            output_logits=True,
            return_dict_in_generate=True,
        )
    new = output.sequences[0].tolist()[-len(output.logits) :] if options.quality != "best" else _new(model, output, ids)
    end = next((place for place, token in enumerate(new) if token in model.stop_token_ids), len(new))
    return new[:end], torch.stack([step[0] for step in output.logits]).float()


def _new(model: VisionLanguageModel, output: Any, ids: torch.Tensor) -> list[int]:
    """The new tokens of a beam search: behind the start token, or behind the prompt."""
    read = ids.shape[1] if model.spec.decoder_only else 1
    found: list[int] = output.sequences[0].tolist()[read:]
    return found


def _cells(row: Row) -> str:
    total = f"{sum(row.equal.values())} of {sum(row.asked.values())}"
    kinds = [f"{row.equal[kind]} of {row.asked[kind]}" for kind in KINDS]
    return " | ".join([total, *kinds, f"{row.difference:.1e}", f"{row.largest:.0f}", str(row.hits)])


if __name__ == "__main__":
    raise SystemExit(main())
