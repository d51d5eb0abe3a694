"""`python -m benchmarks.exactness`: every family, both ways to decode, against transformers on the same weights.

72 requests about two images arrive at random at one engine core: greedy, beam search, sampling, and later turns that
reuse cached keys and values; some are preempted. Greedy tokens and logits, and beam searches, are compared with
transformers' `generate` for that request alone; samples and later turns with the engine's answer to it alone. The
checkpoints are small, with random weights in fp32, on --device. Logits may differ by a thousandth of the largest, or by
a few times as much as transformers' own fp32 logits differ from those in float64, which is more where the random
weights of T5 make attention almost one-hot. Prints a table; the exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import copy
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import devices
from blip_space.catalogue import read_folder
from blip_space.engine.core import EngineCore
from blip_space.engine.request import PreparedRequest
from blip_space.engine.row_sampling import Chosen, Row
from blip_space.loading.selftest import make_test_images
from blip_space.models.interface import VisionLanguageModel
from blip_space.models.preparation import PLACEHOLDER
from blip_space.options import GenerationOptions
from tests.checkpoints import blip2, llava
from tests.engine.models.driving import add, finish, make_core, make_request

CHECKPOINTS: dict[str, Callable[[Path], Path]] = {
    **{name: partial(blip2.write, language_model=name) for name in blip2.LANGUAGE_MODELS},
    "llava (CLIP)": partial(llava.write, vision="clip"),
    "llava (SigLIP)": partial(llava.write, vision="siglip"),
}
KINDS = ("greedy", "beams", "sampled", "later turn")
WORDS = ("how", "many", "cats", "are", "there?", "two", "blau", "a photo of", "on the", "red mat.")
TOLERANCE = 1e-3
ROUNDING_FACTOR = 4
"""How many times the rounding error of transformers' own logits may the difference be."""


@dataclass
class Result:
    """Of one family and way to decode: requests and equal answers by kind, the largest difference of logits, the
    largest rounding error of transformers' own, the largest logit, the prefix hits, and how the core decodes."""

    equal: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)
    difference: float = 0.0
    rounding: float = 0.0
    largest: float = 0.0
    hits: int = 0
    decoding: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether everything agrees."""
        allowed = max(TOLERANCE * max(1.0, self.largest), ROUNDING_FACTOR * self.rounding)
        return self.equal == self.total and self.difference <= allowed


def main() -> int:
    """Create and load each checkpoint, run, compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exactness", description=__doc__)
    parser.add_argument("--requests", type=int, default=72)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, or a GPU such as cuda:0")
    args = parser.parse_args()
    logits = "logits differ by | transformers' rounding | largest logit"
    print(f"| family | way | equal | {' | '.join(KINDS)} | {logits} | prefix hits |")
    print(f"|---|---|--:|{'--:|' * len(KINDS)}--:|--:|--:|--:|")
    is_exact = True
    with tempfile.TemporaryDirectory() as folder:
        for name, write in CHECKPOINTS.items():
            model = devices.load_model(read_folder(write(Path(folder) / name)), "fp32", args.device)
            for way, slots in (("left-aligned", False), ("slots", True)):
                result = compare(model, slots=slots, requests=args.requests, seed=args.seed)
                is_exact = is_exact and result.is_exact
                print(f"| {name} | {way} | {_cells(result)} |", flush=True)
    return int(not is_exact)


def compare(model: VisionLanguageModel, *, slots: bool, requests: int, seed: int, runs: int = 1) -> Result:
    """Run the requests together and compare each answer of the last run. On a GPU the first run shows which graphs are
    missing; they are captured before the second."""
    rng = random.Random(seed)
    prepared = [prepare_request(model, KINDS[number % len(KINDS)], rng) for number in range(requests)]
    core = make_core(model, slots=slots, max_batch_size=6, time_slice_tokens=3)
    logits = record_logits(core)
    waiting, running, now = list(range(requests)) * runs, dict[int, Any](), 0.0
    while waiting or core.has_work:
        while waiting and rng.random() < 0.4 and (len(waiting) % requests or not core.has_work):
            number = waiting.pop(0)
            running[number] = add(core, prepared[number][1])
        now += 1.0
        core.step(now)
        devices.capture_graphs(core)
    result = Result(hits=core.prefix_hits, decoding=devices.decoding(core))
    precise = copy.deepcopy(model._hf_model).double()
    for number, (kind, request) in enumerate(prepared):
        result.total[kind] += 1
        is_compared = kind in ("greedy", "beams")
        expected, scores = reference(model, request, model._hf_model) if is_compared else run_alone(model, request)
        if kind == "greedy":
            exact_ids, exact = reference(model, request, precise)
            same = min(_common_length(expected, exact_ids) + 1, len(scores), len(exact))
            result.rounding = max(result.rounding, float((scores[:same] - exact[:same]).abs().max()))
        result.equal[kind] += running[number].ids == expected
        if kind != "beams":
            own = torch.stack(logits[running[number].id])[: len(scores)]
            result.difference = max(result.difference, float((own - scores[: len(own)]).abs().max()))
            result.largest = max(result.largest, float(own.abs().max()))
    return result


def prepare_request(model: VisionLanguageModel, kind: str, rng: random.Random) -> tuple[str, PreparedRequest]:
    """A request of that kind with a prompt of random length."""
    index = rng.randrange(2)
    options = GenerationOptions(
        max_new_tokens=rng.randint(2, 14),
        temperature=rng.choice((0.7, 1.5)) if kind == "sampled" else 0.0,
        repetition_penalty=1.3 if kind == "sampled" else 1.0,
        seed=rng.randrange(9),
        quality="best" if kind == "beams" else "stream",
        num_beams=rng.choice((2, 4)),
    )
    text = " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))
    image = make_test_images()[index]
    return kind, make_request(model, image, text, options, digest=str(index), turns=kind == "later turn")


def record_logits(core: EngineCore) -> dict[int, list[torch.Tensor]]:
    """The logits of each token from here on, by the id of its sequence; none of beam searches."""
    recorded: dict[int, list[torch.Tensor]] = {}
    sampler, choose = core._runner._row_sampler, core._runner._row_sampler.choose

    def recording(rows: Sequence[Row], logits: torch.Tensor) -> Chosen | None:
        for (sequence, _), own in zip(rows, logits, strict=True):
            if sequence.beam_search is None:
                recorded.setdefault(sequence.id, []).append(own.clone())
        return choose(rows, logits)

    sampler.choose = recording  # type: ignore[method-assign]
    return recorded


def run_alone(model: VisionLanguageModel, request: PreparedRequest) -> tuple[list[int], torch.Tensor]:
    """The tokens and logits of a request without other requests and without cached keys and values."""
    core = make_core(model, slots=False)
    logits = record_logits(core)
    sequence = add(core, replace(request, continues_conversation=False))
    finish(core)
    return sequence.ids, torch.stack(logits[sequence.id])


def reference(model: VisionLanguageModel, request: PreparedRequest, hf_model: Any) -> tuple[list[int], torch.Tensor]:
    """The tokens and raw logits of `generate` for the request alone; `hf_model` is transformers' part of the model, or
    a copy of it in another dtype."""
    options = request.options
    image_token = hf_model.config.image_token_index
    tokens = [image_token if token == PLACEHOLDER else token for token in request.prompt.ids]
    ids = torch.tensor([tokens], device=hf_model.device)
    images = torch.cat(list(request.pixels)).to(hf_model.device)
    with torch.inference_mode():
        output = hf_model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=model.preparation.normalize(images, torch.float32).to(hf_model.dtype),
            do_sample=False,
            num_beams=options.num_beams if options.quality == "best" else 1,
            length_penalty=options.length_penalty,
            min_new_tokens=1,
            max_new_tokens=options.max_new_tokens,
            eos_token_id=sorted(model.stop_token_ids) or None,
            output_logits=True,
            return_dict_in_generate=True,
        )
    tokens = output.sequences[0].tolist()
    if options.quality == "best":  # new tokens follow the prompt, or the start token
        new = tokens[ids.shape[1] if model.spec.decoder_only else 1 :]
    else:
        new = tokens[-len(output.logits) :]
    end = next((index for index, token in enumerate(new) if token in model.stop_token_ids), len(new))
    return new[:end], torch.stack([step[0] for step in output.logits]).float()


def _common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens at the beginning are the same."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(first), len(second)))


def _cells(result: Result) -> str:
    total = f"{sum(result.equal.values())} of {sum(result.total.values())}"
    kinds = [f"{result.equal[kind]} of {result.total[kind]}" for kind in KINDS]
    logits = f"{result.difference:.1e} | {result.rounding:.1e} | {result.largest:.0f}"
    return " | ".join([total, *kinds, logits, str(result.hits)])


if __name__ == "__main__":
    raise SystemExit(main())
