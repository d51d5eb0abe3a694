"""A LLaVA's requests on the engine, with the logits of their tokens, and the same through transformers' `generate`."""

from __future__ import annotations

from collections.abc import Sequence as List
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image

from blip_space.engine.core import EngineCore
from blip_space.engine.plan import Plan
from blip_space.engine.request import PreparedRequest
from blip_space.engine.sequence import Sequence
from blip_space.history import Turn
from blip_space.models.preparation import ImageInfo
from blip_space.options import GenerationOptions
from tests.engine.models.driving import add, finish, make_core

TOLERANCE = 1e-3


@dataclass(frozen=True)
class Question:
    """A question about one of the images, by its index."""

    image: int
    text: str
    turns: tuple[Turn, ...]
    options: GenerationOptions
    kind: str = "greedy"


def make_request(model: Any, images: List[Image.Image], question: Question) -> PreparedRequest:
    digest = str(question.image)
    prompt = model.preparation.prepare(
        [ImageInfo(digest)], question.turns, question.text, language="en", options=question.options
    )
    pixels = model.preparation.pixels(images[question.image], question.options)
    return PreparedRequest(model.spec, prompt, (pixels,), question.options, bool(question.turns))


@dataclass
class Reference:
    """transformers' own model and processor of a folder."""

    hf_model: Any
    processor: Any
    images: List[Image.Image]

    def generate(self, question: Question, stop: frozenset[int]) -> tuple[list[int], torch.Tensor]:
        """The new tokens up to the first stop token, and the logits (steps, vocabulary) of each; for a beam search
        those of its first beam's row."""
        texts = [*(text for turn in question.turns for text in turn), question.text]
        messages = [
            {"role": "assistant" if index % 2 else "user", "content": [{"type": "text", "text": text}]}
            for index, text in enumerate(texts)
        ]
        messages[0]["content"] = [{"type": "image"}, *messages[0]["content"]]
        text = self.processor.apply_chat_template(messages, add_generation_prompt=True)
        inputs = self.processor(images=self.images[question.image], text=text, return_tensors="pt")
        inputs = inputs.to(self.hf_model.device)
        options = question.options
        with torch.inference_mode():
            output = self.hf_model.generate(
                **inputs,
                do_sample=False,
                num_beams=options.num_beams if options.quality == "best" else 1,
                length_penalty=options.length_penalty,
                min_new_tokens=1,
                max_new_tokens=options.max_new_tokens,
                eos_token_id=sorted(stop),
                output_logits=True,
                return_dict_in_generate=True,
            )
        ids = output.sequences[0].tolist()[inputs["input_ids"].shape[1] :]
        end = next((index for index, token in enumerate(ids) if token in stop), len(ids))
        return ids[:end], torch.stack([step[0] for step in output.logits]).float()


def record_logits(core: EngineCore) -> dict[int, list[torch.Tensor]]:
    """From now on the logits that each sequence's tokens are chosen from, by its id; without beam searches."""
    recorded: dict[int, list[torch.Tensor]] = {}
    sampler: Any = core._runner._row_sampler
    choose = sampler.choose

    def record_and_choose(rows: List[tuple[Sequence, int]], logits: torch.Tensor) -> Any:
        for (sequence, _), own in zip(rows, logits, strict=True):
            if sequence.beam_search is None:
                recorded.setdefault(sequence.id, []).append(own.clone())
        return choose(rows, logits)

    sampler.choose = record_and_choose
    return recorded


def record_preemptions(core: EngineCore) -> list[Sequence]:
    """From now on the sequences that are preempted."""
    preempted: list[Sequence] = []
    runner: Any = core._runner
    preempt = runner._preempt

    def record_and_preempt(plan: Plan) -> None:
        preempted.extend(plan.preempted)
        preempt(plan)

    runner._preempt = record_and_preempt
    return preempted


def generate_alone(model: Any, request: PreparedRequest, limits: dict[str, Any]) -> tuple[list[int], torch.Tensor]:
    """The tokens of a request that runs alone with empty caches, and their logits."""
    core = make_core(model, **limits)
    logits = record_logits(core)
    sequence = add(core, replace(request, continues_conversation=False))
    finish(core)
    return sequence.ids, torch.stack(logits[sequence.id])


def check(ids: List[int], logits: List[torch.Tensor], expected: tuple[List[int], torch.Tensor]) -> None:
    """The same tokens, from the same logits at every step up to the stop token; and the logits are not all small."""
    expected_ids, expected_logits = expected
    assert list(ids) == list(expected_ids)
    steps = min(len(logits), len(expected_logits))
    assert steps >= len(expected_ids)
    own = torch.stack(list(logits)[:steps])
    assert float(own.abs().max()) > 1
    # `min_new_tokens` forbids a stop token at first, in transformers after the logits are recorded
    assert float((own - expected_logits[:steps]).abs().max()) < TOLERANCE
