"""A loaded BLIP-2: how its prompt is embedded, how an answer starts, and on how many threads it decodes."""

from dataclasses import replace

import pytest
from PIL import Image

from blip_space.models import interface
from blip_space.models.families.blip2 import Blip2
from blip_space.models.threads import MIN_PARAMETERS
from tests.checkpoints.generation import embed_text, image_features, image_positions, with_hf_model

TEXT = "a photo of two cats"


def test_the_embedded_prompt_is_image_and_text_tokens(model: Blip2, two_images: list[Image.Image]) -> None:
    (features,) = image_features(model, two_images[:1])
    length = len(embed_text(model, features, TEXT))
    assert length == image_positions(model.preparation) + len(model.preparation.encode(TEXT))
    assert len(model.preparation.encode("a " * 3000)) >= 3000


def test_an_answer_starts_with_the_same_tokens_as_in_generate(
    model: Blip2, two_images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repetition penalty counts them, so a decoder-only model has none."""
    hf_model, (features,) = model._hf_model, image_features(model, two_images[:1])
    monkeypatch.setattr(hf_model.language_model.generation_config, "decoder_start_token_id", 3)
    expected = () if model.spec.decoder_only else (3,)
    prompt = embed_text(with_hf_model(model, hf_model, model.spec), features, "a")
    assert (prompt.start, prompt.next_position) == (expected, len(prompt))


def test_a_small_model_decodes_on_one_thread(model: Blip2, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "ALL_THREADS", 7)
    specs = [replace(model.spec, parameters=count) for count in (MIN_PARAMETERS - 1, MIN_PARAMETERS)]
    assert [with_hf_model(model, model._hf_model, spec).threads for spec in specs] == [1, 7]
