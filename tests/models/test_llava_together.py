"""LLaVA's sequences that run together are transformers' `generate` of each, in tokens and in every step's logits."""

from __future__ import annotations

import random
from collections.abc import Sequence as List
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from blip_space.catalogue import read_folder
from blip_space.engine.core import EngineCore
from blip_space.engine.request import EngineConfig, PreparedRequest
from blip_space.engine.scheduler import Plan
from blip_space.engine.sequence import Sequence
from blip_space.history import Turn
from blip_space.loading.loader import load_model
from blip_space.models.preparation import ImageInfo
from blip_space.options import GenerationOptions
from tests.checkpoints import llava
from tests.checkpoints.llava import POSITIONS, VISION_ENCODERS
from tests.engine.models.driving import add, finish, make_core

REQUESTS, TOLERANCE = 72, 1e-3
KINDS = ("greedy", "beams", "sampled", "later turn")
WORDS = ("how", "many", "cats", "are", "there?", "two", "blau", "赤い丸", "a photo of", "red\nmat.")
WAYS = ("left-aligned", "slots") if "slots" in {field.name for field in fields(EngineConfig)} else ("left-aligned",)


@pytest.fixture(scope="module", params=VISION_ENCODERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llava.write(tmp_path_factory.mktemp("llava") / str(request.param), str(request.param))


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_model(read_folder(folder), "fp32")


@pytest.fixture(params=WAYS)
def limits(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the engine is given so that it executes in one way or the other."""
    return {"slots": request.param == "slots"} if len(WAYS) > 1 else {}


@dataclass(frozen=True)
class Asked:
    """A question about one of the pictures."""

    picture: int
    question: str
    turns: tuple[Turn, ...]
    options: GenerationOptions
    kind: str = "greedy"


def asked_of(model: Any, two_images: List[Image.Image], asked: Asked) -> PreparedRequest:
    digest = str(asked.picture)
    prompt = model.preparation.prepare(
        [ImageInfo(digest)], asked.turns, asked.question, language="en", options=asked.options
    )
    pixels = model.preparation.pixels(two_images[asked.picture], asked.options)
    return PreparedRequest(model.spec, prompt, (pixels,), asked.options, bool(asked.turns))


@dataclass
class Reference:
    """transformers' own model and processor of a folder."""

    network: Any
    processor: Any
    pictures: List[Image.Image]

    def generate(self, asked: Asked, stop: frozenset[int]) -> tuple[list[int], torch.Tensor]:
        """The new tokens up to the first stop, and the logits (steps, vocabulary) of each; of a beam search those of
        its first beam's row."""
        texts = [*(text for turn in asked.turns for text in turn), asked.question]
        messages = [
            {"role": "assistant" if place % 2 else "user", "content": [{"type": "text", "text": text}]}
            for place, text in enumerate(texts)
        ]
        messages[0]["content"] = [{"type": "image"}, *messages[0]["content"]]
        text = self.processor.apply_chat_template(messages, add_generation_prompt=True)
        inputs = self.processor(images=self.pictures[asked.picture], text=text, return_tensors="pt")
        options = asked.options
        with torch.inference_mode():
            output = self.network.generate(
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
        new = output.sequences[0].tolist()[inputs["input_ids"].shape[1] :]
        end = next((place for place, token in enumerate(new) if token in stop), len(new))
        return new[:end], torch.stack([step[0] for step in output.logits]).float()


@pytest.fixture(scope="module")
def reference(folder: Path, two_images: list[Image.Image]) -> Reference:
    network = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    return Reference(network, AutoProcessor.from_pretrained(folder), two_images)


def record_logits(core: EngineCore) -> dict[int, list[torch.Tensor]]:
    """From here on what the tokens of each sequence are chosen from, by its id; nothing of beams."""
    found: dict[int, list[torch.Tensor]] = {}
    runner: Any = core._runner
    choose = runner._sample

    def recording(rows: List[tuple[Sequence, int]], logits: torch.Tensor) -> None:
        for (sequence, _), own in zip(rows, logits, strict=True):
            if sequence.beam_search is None:
                found.setdefault(sequence.id, []).append(own.clone())
        choose(rows, logits)

    runner._sample = recording
    return found


def record_preemptions(core: EngineCore) -> list[Sequence]:
    """From here on the sequences that are preempted."""
    found: list[Sequence] = []
    runner: Any = core._runner
    preempt = runner._preempt

    def recording(plan: Plan) -> None:
        found.extend(plan.preempted)
        preempt(plan)

    runner._preempt = recording
    return found


def alone(model: Any, one: PreparedRequest, limits: dict[str, Any]) -> tuple[list[int], torch.Tensor]:
    """What a request is answered without a neighbour and without what was kept, and the logits of its tokens."""
    core = make_core(model, **limits)
    logits = record_logits(core)
    sequence = add(core, replace(one, continues_conversation=False))
    finish(core)
    return sequence.ids, torch.stack(logits[sequence.id])


def check(ids: List[int], logits: List[torch.Tensor], expected: tuple[List[int], torch.Tensor]) -> None:
    """The same tokens, from the same logits at every step up to the stop; larger than chance in what they hold."""
    tokens, scores = expected
    assert list(ids) == list(tokens)
    steps = min(len(logits), len(scores))
    assert steps >= len(tokens)
    own = torch.stack(list(logits)[:steps])
    assert float(own.abs().max()) > 1
    # `min_new_tokens` forbids a stop at first, in transformers after the logits are taken
    assert float((own - scores[:steps]).abs().max()) < TOLERANCE


QUESTIONS = (("What is it?", ()), ("Describe it\nin two lines.", ()), ("And now?", (("What?", "two cats"), ("?", "x"))))


@pytest.mark.parametrize("picture", [0, 1])
def test_one_request_is_generates(
    model: Any, reference: Reference, two_images: list[Image.Image], limits: dict[str, Any], picture: int
) -> None:
    for question, turns in QUESTIONS:
        asked = Asked(picture, question, tuple(turns), GenerationOptions(max_new_tokens=16))
        ids, logits = alone(model, asked_of(model, two_images, asked), limits)
        check(ids, list(logits), reference.generate(asked, model.stop_token_ids))


def test_another_image_has_another_answer(model: Any, two_images: list[Image.Image], limits: dict[str, Any]) -> None:
    for question, turns in QUESTIONS:
        answers = [
            alone(model, asked_of(model, two_images, Asked(place, question, tuple(turns), GenerationOptions())), limits)
            for place in (0, 1)
        ]
        assert answers[0][0] != answers[1][0]
        assert float((answers[0][1][0] - answers[1][1][0]).abs().max()) > 0.1


def draw(rng: random.Random, number: int) -> Asked:
    """A request of each kind in turn. Later turns share the beginning of their conversations, as those of one person
    do."""
    kind = KINDS[number % len(KINDS)]
    turns: tuple[Turn, ...] = ()
    if kind == "later turn":
        turns = (("how many cats?", "two"), *((some_words(rng), some_words(rng)) for _ in range(rng.randrange(3))))
    options = GenerationOptions(
        max_new_tokens=rng.randint(2, 14),
        temperature=rng.choice((0.7, 1.5)) if kind == "sampled" else 0.0,
        top_p=rng.choice((1.0, 0.8)) if kind == "sampled" else 1.0,
        repetition_penalty=1.3 if kind == "sampled" else 1.0,
        seed=rng.randrange(9),
        quality="best" if kind == "beams" else "stream",
        num_beams=rng.choice((2, 4)),
    )
    return Asked(rng.randrange(2), some_words(rng), turns, options, kind)


def some_words(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))


def test_requests_that_arrive_at_random_are_generates(
    model: Any, reference: Reference, two_images: list[Image.Image], limits: dict[str, Any]
) -> None:
    """Greedy, beams, samples and later turns, with preemptions, about two images."""
    rng = random.Random(5)
    asked = [draw(rng, number) for number in range(REQUESTS)]
    core = make_core(model, max_batch_size=6, time_slice_tokens=3, **limits)
    logits, preempted = record_logits(core), record_preemptions(core)
    waiting, running, now = list(enumerate(asked)), dict[int, Sequence](), 0.0
    while waiting or core.has_work:
        while waiting and rng.random() < 0.4:
            number, one = waiting.pop(0)
            running[number] = add(core, asked_of(model, two_images, one))
        now += 1.0
        core.step(now)
    assert len(running) == REQUESTS
    assert len(preempted) > 5
    assert core.prefix_hits > 5
    for number, one in enumerate(asked):
        sequence = running[number]
        if one.kind == "beams":
            assert sequence.ids == reference.generate(one, model.stop_token_ids)[0]
        elif one.kind == "sampled":
            check(sequence.ids, logits[sequence.id], alone(model, asked_of(model, two_images, one), limits))
        else:
            check(sequence.ids, logits[sequence.id], reference.generate(one, model.stop_token_ids))


def test_a_later_turn_reads_only_what_is_new(
    model: Any, reference: Reference, two_images: list[Image.Image], limits: dict[str, Any]
) -> None:
    """The image stands in the middle: another image's conversation, word for word the same, shares nothing with it."""
    core = make_core(model, **limits)
    options = GenerationOptions(max_new_tokens=6)
    add(core, asked_of(model, two_images, Asked(0, "What is it?", (), options)))
    finish(core)
    turns = (("What is it?", "two cats"),)
    same, other = (Asked(place, "And now?", turns, options) for place in (0, 1))
    requests = [asked_of(model, two_images, one) for one in (same, other)]
    (span,) = requests[0].prompt.images
    assert core._runner.uncached_tokens(requests[0]) < len(requests[0].prompt) - span.end
    assert core._runner.uncached_tokens(requests[1]) == len(requests[1].prompt)
    logits = record_logits(core)
    sequences = [add(core, one) for one in requests]
    finish(core)
    assert core.prefix_hits == 1
    for sequence, one in zip(sequences, (same, other), strict=True):
        check(sequence.ids, logits[sequence.id], reference.generate(one, model.stop_token_ids))


def test_a_beginning_that_ends_before_or_inside_the_image_is_not_used(
    model: Any, two_images: list[Image.Image]
) -> None:
    core = make_core(model)
    options = GenerationOptions(max_new_tokens=4)
    first = asked_of(model, two_images, Asked(0, "What is it?", (), options))
    add(core, first)
    finish(core)
    later = replace(first, continues_conversation=True)
    assert core._runner.uncached_tokens(later) == 1
    cut = replace(later, prompt=later.prompt.with_image_keys("another image"))
    assert core._runner.uncached_tokens(cut) == len(cut.prompt)


def test_the_stop_string_never_shows(
    model: Any, two_images: list[Image.Image], limits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vicuna goes on with the next question by itself."""
    core = EngineCore(model, EngineConfig(**limits))
    script = model.preparation.encode("a red mat. USER: And?")[1:]
    monkeypatch.setattr(core._runner._sampler, "sample", lambda _, requests: [script[len(requests[0][1])]])
    one = asked_of(model, two_images, Asked(0, "What?", (), GenerationOptions(max_new_tokens=60)))
    core.add(one)
    texts, now = [], 0.0
    while core.has_work:
        now += 1.0
        texts += [output.text for output in core.step(now)]
    assert texts[-1] == "a red mat."
    assert all("a red mat. ".startswith(text) for text in texts)
    assert len(texts) > 3


def test_an_images_features_are_made_once(model: Any, two_images: list[Image.Image], limits: dict[str, Any]) -> None:
    core = make_core(model, **limits)
    for question in ("What?", "And?", "So?"):
        add(core, asked_of(model, two_images, Asked(0, question, (), GenerationOptions(max_new_tokens=2))))
        finish(core)
    assert core.image_feature_hits == 2
    features = core._runner.image_features
    assert features.bytes == POSITIONS["clip"] * 32 * 4
