"""Laws of the budget, and of refusing a language that a model does not speak."""

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


def test_an_encoder_decoder_model_spends_its_window_on_picture_and_prompt() -> None:
    budget = measure_budget(FakeModel(spec()), prompt="What is it?", language="de", turns=(), max_new_tokens=64)
    assert budget.prompt == "Question: What is it? Short answer in German:"
    assert (budget.image_tokens, budget.prompt_tokens, budget.reply_tokens) == (4, 8, 0)
    assert (budget.context_tokens, budget.used_tokens) == (512, 12)


def test_a_decoder_only_model_spends_it_on_the_reply_too() -> None:
    model = FakeModel(spec(language_model_type="bloom"))
    budget = measure_budget(model, prompt="What is it?", language="de", turns=(), max_new_tokens=64)
    assert (budget.reply_tokens, budget.used_tokens) == (64, 76)
    with pytest.raises(PromptError, match="fewer new tokens"):
        measure_budget(model, prompt="What is it?", language="de", turns=(), max_new_tokens=512)


def test_turns_that_no_longer_fit_are_counted() -> None:
    turns = [(f"What is {number}?", "a number") for number in range(200)]
    budget = measure_budget(FakeModel(spec()), prompt="And?", language="en", turns=turns, max_new_tokens=1)
    assert budget.kept_turns + budget.dropped_turns == 200
    assert 500 < budget.used_tokens <= 512


@pytest.mark.parametrize("name", catalogue.MODELS)
def test_a_foreign_language_is_refused_with_the_models_that_speak_it(name: str) -> None:
    found = catalogue.find_model(name)
    if "de" in found.languages:
        check_language(found, "de")
        return
    with pytest.raises(
        UserError, match=f"{name} does not support German; it supports English.*mblip-mt0-xl and mblip-bloomz-7b"
    ):
        check_language(found, "de")


def test_an_unknown_language_is_a_sentence() -> None:
    with pytest.raises(UserError, match="There is no language 'xx'"):
        check_language(spec(), "xx")


@pytest.mark.parametrize(
    ("prompt", "penalty"), [("What?", -1.0), ("What?\x07\n", -1.0), ("", 1.0), ("Describe it.", 1.0)]
)
def test_a_search_for_an_answer_favours_short_ones_as_the_originals_do(prompt: str, penalty: float) -> None:
    assert decoding_options(GenerationOptions(quality="best"), prompt).length_penalty == penalty
    assert decoding_options(GenerationOptions(), prompt) == GenerationOptions()


def test_a_prepared_request_holds_pixels_of_the_models_size_and_no_picture() -> None:
    """H6: forty pictures of 64 megapixels took 10 GB until their answers ended."""
    model, freed = FakeModel(spec()), list[bool]()
    picture = Image.new("RGB", (20, 20))
    weakref.finalize(picture, freed.append, True)
    request = Request(SafeImage(picture, "d"), "What is it?", "de")
    prepared = prepare(request, model, PixelCache(1_000))
    del request, picture
    assert freed == [True]
    (image,) = prepared.prompt.images
    assert (image.key, image.start, image.length) == ("d", 0, QUERY_TOKENS)
    assert prepared.prompt.ids[QUERY_TOKENS:] == tuple(model.encode("Question: What is it? Short answer in German:"))
    assert [pixels.shape for pixels in prepared.pixels] == [(1, 1)]


def test_preparing_keeps_what_decides_how_a_request_is_answered() -> None:
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


def test_an_image_is_decoded_once_for_all_questions_about_it() -> None:
    """Every turn of a conversation decoded and resized it again."""
    model, cache, made = FakeModel(spec()), PixelCache(1_000), list[int]()
    pixels = model.pixels

    def counted(image: Any, options: GenerationOptions) -> torch.Tensor:
        made.append(1)
        return pixels(image, options)

    model.pixels = counted  # type: ignore[method-assign]
    for digest in ("a", "a", "b", "a"):
        image = SafeImage(Image.new("RGB", (1, 1)), digest)
        (span,) = prepare(Request(image, "What is it?"), model, cache).prompt.images
        assert span.key == digest
    assert len(made) == 2


def test_the_size_of_an_image_is_told_where_it_decides() -> None:
    model = SizedModel()
    image = SafeImage(Image.new("RGB", (30, 20)), "d")
    prepare(Request(image, "What is it?"), model, PixelCache(1_000))
    assert model.infos == [ImageInfo("d", 30, 20)]


def test_pixel_values_are_kept_by_what_they_depend_on() -> None:
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
    one, other = (prepare(Request(image, "What?"), FakeModel(spec(name)), cache).pixels[0] for name in ("one", "other"))
    assert one is not other
    assert cache.bytes == one.nbytes + other.nbytes


def test_a_prompt_that_does_not_fit_is_refused_before_the_image_is_decoded() -> None:
    with pytest.raises(PromptError):
        prepare(Request(ImageFile(b"no image"), "word " * 600), FakeModel(spec()), PixelCache(1_000))


class Pixels:
    """Values of ten bytes."""

    nbytes = 10


def test_pixel_values_are_kept_within_a_bound_of_bytes_and_by_model() -> None:
    cache, made = PixelCache(25), list[str]()

    def ask(model: str, digest: str) -> bool:
        """Whether they had to be made."""
        before = len(made)
        cache.get_or_compute((model, digest), lambda: made.append(digest) or Pixels())  # type: ignore[func-returns-value]
        return len(made) > before

    assert [ask("one", "a"), ask("one", "b"), ask("one", "a"), ask("two", "a")] == [True, True, False, True]
    assert cache.bytes == 20
    assert [ask("one", "a"), ask("one", "b"), ask("two", "a")] == [False, True, True]


def test_what_cannot_be_decoded_is_not_kept() -> None:
    cache = PixelCache(25)
    for _ in range(2):
        with pytest.raises(ImageError):
            prepare(Request(ImageFile(b"no image"), "What?"), FakeModel(spec()), cache)
    assert cache.bytes == 0
