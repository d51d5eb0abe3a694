"""LLaVA sequences that run together equal transformers' `generate` of each, in tokens and in every step's logits."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from blip_space.catalogue import read_folder
from blip_space.engine.core import EngineCore
from blip_space.engine.request import EngineConfig
from blip_space.engine.sampling import Choice
from blip_space.engine.sequence import Sequence
from blip_space.history import Turn
from blip_space.options import GenerationOptions
from tests.checkpoints import llava
from tests.checkpoints.llava import POSITIONS, VISION_ENCODERS
from tests.devices import load_here
from tests.engine.models.driving import add, finish, make_core
from tests.models.llava_reference import (
    Question,
    Reference,
    check,
    generate_alone,
    make_request,
    record_logits,
    record_preemptions,
)

REQUESTS = 72
KINDS = ("greedy", "beams", "sampled", "later turn")
WORDS = ("how", "many", "cats", "are", "there?", "two", "blau", "赤い丸", "a photo of", "red\nmat.")
LAYOUTS = ("left-aligned", "slots")


@pytest.fixture(scope="module", params=VISION_ENCODERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return llava.write(tmp_path_factory.mktemp("llava") / str(request.param), str(request.param))


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_here(read_folder(folder), "fp32")


@pytest.fixture(params=LAYOUTS)
def limits(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The engine's options for one layout of the batch or the other."""
    return {"slots": request.param == "slots"}


@pytest.fixture(scope="module")
def reference(model: Any, folder: Path, two_images: list[Image.Image]) -> Reference:
    hf_model = LlavaForConditionalGeneration.from_pretrained(folder).eval().to(model.decoder.device)
    return Reference(hf_model, AutoProcessor.from_pretrained(folder), two_images)


QUESTIONS = (("What is it?", ()), ("Describe it\nin two lines.", ()), ("And now?", (("What?", "two cats"), ("?", "x"))))


@pytest.mark.parametrize("image", [0, 1])
def test_one_request_equals_generate(
    model: Any, reference: Reference, two_images: list[Image.Image], limits: dict[str, Any], image: int
) -> None:
    for text, turns in QUESTIONS:
        question = Question(image, text, tuple(turns), GenerationOptions(max_new_tokens=16))
        ids, logits = generate_alone(model, make_request(model, two_images, question), limits)
        check(ids, list(logits), reference.generate(question, model.stop_token_ids))


def test_another_image_gets_another_answer(model: Any, two_images: list[Image.Image], limits: dict[str, Any]) -> None:
    for text, turns in QUESTIONS:
        questions = [Question(image, text, tuple(turns), GenerationOptions()) for image in (0, 1)]
        answers = [generate_alone(model, make_request(model, two_images, each), limits) for each in questions]
        assert answers[0][0] != answers[1][0]
        assert float((answers[0][1][0] - answers[1][1][0]).abs().max()) > 0.1


def random_question(rng: random.Random, number: int) -> Question:
    """A question of each kind in turn. Later turns share the beginning of their conversation, like one user's."""
    kind = KINDS[number % len(KINDS)]
    turns: tuple[Turn, ...] = ()
    if kind == "later turn":
        turns = (("how many cats?", "two"), *((random_words(rng), random_words(rng)) for _ in range(rng.randrange(3))))
    options = GenerationOptions(
        max_new_tokens=rng.randint(2, 14),
        temperature=rng.choice((0.7, 1.5)) if kind == "sampled" else 0.0,
        top_p=rng.choice((1.0, 0.8)) if kind == "sampled" else 1.0,
        repetition_penalty=1.3 if kind == "sampled" else 1.0,
        seed=rng.randrange(9),
        quality="best" if kind == "beams" else "stream",
        num_beams=rng.choice((2, 4)),
    )
    return Question(rng.randrange(2), random_words(rng), turns, options, kind)


def random_words(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 9)))


def test_requests_that_arrive_at_random_equal_generate(
    model: Any, reference: Reference, two_images: list[Image.Image], limits: dict[str, Any]
) -> None:
    """Greedy, beam search, sampling and later turns, with preemptions, about two images."""
    rng = random.Random(5)
    questions = [random_question(rng, number) for number in range(REQUESTS)]
    core = make_core(model, max_batch_size=6, time_slice_tokens=3, **limits)
    logits, preempted = record_logits(core), record_preemptions(core)
    waiting, running, now = list(enumerate(questions)), dict[int, Sequence](), 0.0
    while waiting or core.has_work:
        while waiting and rng.random() < 0.4:
            number, question = waiting.pop(0)
            running[number] = add(core, make_request(model, two_images, question))
        now += 1.0
        core.step(now)
    assert len(running) == REQUESTS
    assert len(preempted) > 5
    assert core.prefix_hits > 5
    for number, question in enumerate(questions):
        sequence = running[number]
        if question.kind == "beams":
            assert sequence.ids == reference.generate(question, model.stop_token_ids)[0]
        elif question.kind == "sampled":
            expected = generate_alone(model, make_request(model, two_images, question), limits)
            check(sequence.ids, logits[sequence.id], expected)
        else:
            check(sequence.ids, logits[sequence.id], reference.generate(question, model.stop_token_ids))


def test_a_later_turn_prefills_only_what_is_new(
    model: Any, reference: Reference, two_images: list[Image.Image], limits: dict[str, Any]
) -> None:
    """The image comes after the first text: the same conversation about another image shares no prefix with it."""
    core = make_core(model, **limits)
    options = GenerationOptions(max_new_tokens=6)
    add(core, make_request(model, two_images, Question(0, "What is it?", (), options)))
    finish(core)
    turns = (("What is it?", "two cats"),)
    questions = [Question(image, "And now?", turns, options) for image in (0, 1)]
    requests = [make_request(model, two_images, question) for question in questions]
    (span,) = requests[0].prompt.images
    assert core._runner.uncached_tokens(requests[0]) < len(requests[0].prompt) - span.end
    assert core._runner.uncached_tokens(requests[1]) == len(requests[1].prompt)
    logits = record_logits(core)
    sequences = [add(core, request) for request in requests]
    finish(core)
    assert core.prefix_hits == 1
    for sequence, question in zip(sequences, questions, strict=True):
        check(sequence.ids, logits[sequence.id], reference.generate(question, model.stop_token_ids))


def test_a_prefix_that_ends_before_or_inside_the_image_is_not_used(model: Any, two_images: list[Image.Image]) -> None:
    core = make_core(model)
    options = GenerationOptions(max_new_tokens=4)
    first = make_request(model, two_images, Question(0, "What is it?", (), options))
    add(core, first)
    finish(core)
    later = replace(first, continues_conversation=True)
    assert core._runner.uncached_tokens(later) == 1
    other = replace(later, prompt=later.prompt.with_image_keys("another image"))
    assert core._runner.uncached_tokens(other) == len(other.prompt)


def test_a_stop_string_is_never_visible(
    model: Any, two_images: list[Image.Image], limits: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vicuna continues with the next question by itself."""
    core = EngineCore(model, EngineConfig(**limits))
    script = model.preparation.encode("a red mat. USER: And?")[1:]
    monkeypatch.setattr(core._runner._sampler, "choose", lambda _, requests: Choice([script[len(requests[0][1])]]))
    question = Question(0, "What?", (), GenerationOptions(max_new_tokens=60))
    core.add(make_request(model, two_images, question))
    texts, now = [], 0.0
    while core.has_work:
        now += 1.0
        texts += [output.text for output in core.step(now)]
    assert texts[-1] == "a red mat."
    assert all("a red mat. ".startswith(text) for text in texts)
    assert len(texts) > 3


def test_an_image_is_encoded_once(model: Any, two_images: list[Image.Image], limits: dict[str, Any]) -> None:
    core = make_core(model, **limits)
    for text in ("What?", "And?", "So?"):
        question = Question(0, text, (), GenerationOptions(max_new_tokens=2))
        add(core, make_request(model, two_images, question))
        finish(core)
    assert core.image_feature_hits == 2
    features = core._runner.image_features
    assert features.bytes == POSITIONS["clip"] * 32 * 4
