"""Prepared requests, pixel values, the budget, and languages that a model does not support."""

import weakref
from typing import Any

import pytest
import torch
from PIL import Image

from blip_space import catalogue
from blip_space.engine.pixel_cache import PixelCache
from blip_space.engine.request import Request, check_language, decoding_options, measure_budget, prepare
from blip_space.errors import ImageError, PromptError, UserError
from blip_space.images import ImageFile, SafeImage
from blip_space.models.preparation import ImageInfo
from blip_space.options import GenerationOptions
from tests.engine.fake_model import QUERY_TOKENS, FakeModel, SizedModel, spec


def test_the_window_of_an_encoder_decoder_holds_image_and_prompt() -> None:
    budget = measure_budget(FakeModel(spec()), prompt="What is it?", language="de", turns=(), max_new_tokens=64)
    assert budget.prompt == "Question: What is it? Short answer in German:"
    assert (budget.image_tokens, budget.prompt_tokens, budget.reply_tokens) == (4, 8, 0)
    assert (budget.context_tokens, budget.used_tokens) == (512, 12)


def test_the_window_of_a_decoder_only_model_holds_the_reply_too() -> None:
    model = FakeModel(spec(language_model_type="bloom"))
    budget = measure_budget(model, prompt="What is it?", language="de", turns=(), max_new_tokens=64)
    assert (budget.reply_tokens, budget.used_tokens) == (64, 76)
    with pytest.raises(PromptError, match="lower max_new_tokens"):
        measure_budget(model, prompt="What is it?", language="de", turns=(), max_new_tokens=512)


def test_dropped_turns_are_counted() -> None:
    turns = [(f"What is {number}?", "a number") for number in range(200)]
    budget = measure_budget(FakeModel(spec()), prompt="And?", language="en", turns=turns, max_new_tokens=1)
    assert budget.kept_turns + budget.dropped_turns == 200
    assert 500 < budget.used_tokens <= 512


@pytest.mark.parametrize("name", catalogue.MODELS)
def test_an_unsupported_language_is_rejected_with_the_models_that_support_it(name: str) -> None:
    model_spec = catalogue.find_model(name)
    if "de" in model_spec.languages:
        check_language(model_spec, "de")
        return
    with pytest.raises(
        UserError, match=f"{name} does not support German; it supports English.*mblip-mt0-xl and mblip-bloomz-7b"
    ):
        check_language(model_spec, "de")


def test_an_unknown_language_is_a_user_error() -> None:
    with pytest.raises(UserError, match="There is no language 'xx'"):
        check_language(spec(), "xx")


@pytest.mark.parametrize(
    ("prompt", "penalty"), [("What?", -1.0), ("What?\x07\n", -1.0), ("", 1.0), ("Describe it.", 1.0)]
)
def test_beam_search_favours_short_answers_to_questions_only(prompt: str, penalty: float) -> None:
    assert decoding_options(GenerationOptions(quality="best"), prompt).length_penalty == penalty
    assert decoding_options(GenerationOptions(), prompt) == GenerationOptions()


def test_a_prepared_request_holds_pixel_values_and_not_the_image() -> None:
    """Forty images of 64 megapixels took 10 GB until their answers ended."""
    model, freed = FakeModel(spec()), list[bool]()
    pil_image = Image.new("RGB", (20, 20))
    weakref.finalize(pil_image, freed.append, True)
    request = Request(SafeImage(pil_image, "d"), "What is it?", "de")
    prepared = prepare(request, model, PixelCache(1_000))
    del request, pil_image
    assert freed == [True]
    (image,) = prepared.prompt.images
    assert (image.key, image.start, image.length) == ("d", 0, QUERY_TOKENS)
    assert prepared.prompt.ids[QUERY_TOKENS:] == tuple(model.encode("Question: What is it? Short answer in German:"))
    assert [pixels.shape for pixels in prepared.pixels] == [(1, 1)]


def test_a_prepared_request_keeps_options_turns_and_priority() -> None:
    model, image = FakeModel(spec()), SafeImage(Image.new("RGB", (1, 1)), "d")
    plain = prepare(Request(image, "What is it?"), model, PixelCache(1_000))
    assert (plain.continues_conversation, plain.background) == (False, False)
    best = GenerationOptions(quality="best")
    later = prepare(
        Request(image, "And?", turns=(("What is it?", "a cat"),), options=best, background=True),
        model,
        PixelCache(1_000),
    )
    assert (later.continues_conversation, later.background) == (True, True)
    assert later.options == decoding_options(best, "And?") != best


def test_a_prompt_is_tokenised_once() -> None:
    model, texts = FakeModel(spec()), list[str]()
    encode = model.encode
    model.encode = lambda text: texts.append(text) or encode(text)  # type: ignore[func-returns-value,method-assign]
    prepare(Request(SafeImage(Image.new("RGB", (1, 1)), "d"), "What is it?"), model, PixelCache(1_000))
    assert texts == ["Question: What is it? Short answer in English:"]


def test_an_image_is_decoded_once_for_all_its_questions() -> None:
    """Each turn of a conversation decoded and resized it again."""
    model, cache, calls = FakeModel(spec()), PixelCache(1_000), list[int]()
    pixels = model.pixels

    def counted(image: Any, options: GenerationOptions) -> torch.Tensor:
        calls.append(1)
        return pixels(image, options)

    model.pixels = counted  # type: ignore[method-assign]
    for digest in ("a", "a", "b", "a"):
        image = SafeImage(Image.new("RGB", (1, 1)), digest)
        (span,) = prepare(Request(image, "What is it?"), model, cache).prompt.images
        assert span.key == digest
    assert len(calls) == 2


def test_positions_that_depend_on_the_image_get_its_size() -> None:
    model = SizedModel()
    image = SafeImage(Image.new("RGB", (30, 20)), "d")
    prepare(Request(image, "What is it?"), model, PixelCache(1_000))
    assert model.infos == [ImageInfo("d", 30, 20)]


def test_pixel_values_are_cached_by_feature_key() -> None:
    model, cache = SizedModel(), PixelCache(1_000)
    image = SafeImage(Image.new("RGB", (1, 1)), "d")
    first, other, again = (
        prepare(Request(image, "What?", options=GenerationOptions(num_beams=beams)), model, cache).pixels[0]
        for beams in (2, 3, 2)
    )
    assert again is first
    assert other is not first


def test_models_do_not_share_pixel_values() -> None:
    cache, image = PixelCache(1_000), SafeImage(Image.new("RGB", (1, 1)), "d")
    first, second = (prepare(Request(image, "What?"), FakeModel(spec(name)), cache).pixels[0] for name in ("a", "b"))
    assert first is not second
    assert cache.bytes == first.nbytes + second.nbytes


def test_a_prompt_that_does_not_fit_is_rejected_before_the_image_is_decoded() -> None:
    with pytest.raises(PromptError):
        prepare(Request(ImageFile(b"no image"), "word " * 600), FakeModel(spec()), PixelCache(1_000))


class Pixels:
    """Pixel values of ten bytes."""

    nbytes = 10


def test_the_pixel_cache_stays_within_its_bytes() -> None:
    cache, computed = PixelCache(25), list[str]()

    def is_miss(model: str, digest: str) -> bool:
        before = len(computed)
        cache.get_or_compute((model, digest), lambda: computed.append(digest) or Pixels())  # type: ignore[func-returns-value]
        return len(computed) > before

    assert [is_miss("one", "a"), is_miss("one", "b"), is_miss("one", "a"), is_miss("two", "a")] == [
        True,
        True,
        False,
        True,
    ]
    assert cache.bytes == 20
    assert [is_miss("one", "a"), is_miss("one", "b"), is_miss("two", "a")] == [False, True, True]


def test_an_image_that_cannot_be_decoded_is_not_cached() -> None:
    cache = PixelCache(25)
    for _ in range(2):
        with pytest.raises(ImageError):
            prepare(Request(ImageFile(b"no image"), "What?"), FakeModel(spec()), cache)
    assert cache.bytes == 0
