"""The engine generates token for token what transformers' `generate` does, for every language model."""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from blip_space.catalogue import read_folder
from blip_space.loading.loader import load_model
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import VisionLanguageModel
from blip_space.models.tokenizer import stop_tokens
from blip_space.options import GenerationOptions, Quality
from tests.checkpoints import stored
from tests.checkpoints.generation import embed_text, image_features, image_positions
from tests.devices import load_here
from tests.engine.models.driving import add, generate_alone, make_core, make_request

pytestmark = [
    pytest.mark.usefixtures("slots"),
    pytest.mark.filterwarnings("ignore:Passing .repetition_penalty."),  # by the `generate` compared with
]

PROMPT = "Question: how many cats are there? Answer:"
GREEDY = GenerationOptions(max_new_tokens=12)


@pytest.fixture
def image(two_images: list[Image.Image]) -> Image.Image:
    return two_images[0]


Stops = Callable[..., None]


@pytest.fixture
def stops(model: Blip2, monkeypatch: pytest.MonkeyPatch) -> Stops:
    """Gives the model other stop tokens."""
    return lambda *tokens: monkeypatch.setattr(model, "stop_token_ids", frozenset(tokens))


def answer(model: VisionLanguageModel, image: Image.Image, options: GenerationOptions = GREEDY) -> list[int]:
    return generate_alone(model, make_request(model, image, PROMPT, options))


def generate(model: Blip2, image: Image.Image, **settings: Any) -> list[int]:
    """`language_model.generate` over the same embeddings: the new tokens up to the first stop."""
    language_model = model._hf_model.language_model
    embeds = embed_text(model, image_features(model, [image])[0], PROMPT).embeddings[None]
    stop = sorted(model.stop_token_ids) or None
    with torch.inference_mode():
        ids: list[int] = language_model.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device),
            **({"min_new_tokens": 1, "max_new_tokens": 12, "eos_token_id": stop} | settings),
        )[0].tolist()
    new = ids[int(language_model.config.is_encoder_decoder) :]
    return new[: next((index for index, token in enumerate(new) if token in model.stop_token_ids), len(new))]


@pytest.mark.parametrize("which", [0, 1])
def test_a_stream_equals_generate_of_the_complete_model(
    model: Blip2, folders: dict[str, Path], family: str, two_images: list[Image.Image], which: int
) -> None:
    processor = Blip2Processor.from_pretrained(folders[family])
    hf_model = Blip2ForConditionalGeneration.from_pretrained(folders[family]).to(model.decoder.device)
    inputs = processor(images=two_images[which], text=PROMPT, return_tensors="pt").to(model.decoder.device)
    ids = hf_model.generate(**inputs, min_new_tokens=1, max_new_tokens=12)[0].tolist()
    start = 1 if hf_model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    expected = [token for token in ids[start:] if token not in stop_tokens(hf_model)]
    assert answer(model, two_images[which]) == expected != []


def test_a_stream_equals_generate_of_the_language_model(model: Blip2, image: Image.Image) -> None:
    assert answer(model, image) == generate(model, image)


@pytest.mark.parametrize("penalty", [1.1, 2.0])
def test_the_repetition_penalty_equals_generate(model: Blip2, image: Image.Image, penalty: float) -> None:
    options = GenerationOptions(max_new_tokens=12, repetition_penalty=penalty)
    assert answer(model, image, options) == generate(model, image, repetition_penalty=penalty)


@pytest.mark.parametrize("num_beams", [2, 5])
@pytest.mark.parametrize("length_penalty", [1.0, -1.0, 2.0])
def test_beam_search_equals_generate(model: Blip2, image: Image.Image, length_penalty: float, num_beams: int) -> None:
    options = GenerationOptions(quality="best", max_new_tokens=12, num_beams=num_beams, length_penalty=length_penalty)
    beams = answer(model, image, options)
    assert beams == generate(model, image, num_beams=num_beams, length_penalty=length_penalty)
    assert beams


@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_a_beam_search_that_ends_early_equals_generate(
    model: Blip2, image: Image.Image, stops: Stops, penalty: float
) -> None:
    options = GenerationOptions(quality="best", max_new_tokens=12, num_beams=5, repetition_penalty=penalty)
    complete = answer(model, image, options)
    for stop in {*complete[1:]} - {complete[0]}:
        stops(stop, complete[0])
        beams = answer(model, image, options)
        assert beams == generate(model, image, num_beams=5, repetition_penalty=penalty)
        stops(stop)
        assert answer(model, image, options) == generate(model, image, num_beams=5, repetition_penalty=penalty)


@pytest.mark.parametrize("several", [False, True])
def test_an_answer_ends_before_the_stop_token(model: Blip2, image: Image.Image, stops: Stops, several: bool) -> None:
    varied = GenerationOptions(max_new_tokens=12, repetition_penalty=2.0)
    complete = answer(model, image, varied)
    stop = next(token for token in complete[1:] if token != complete[0])
    stops(*({stop, next(token for token in range(99) if token not in complete)} if several else {stop}))
    expected = complete[: complete.index(stop)]
    assert answer(model, image, varied) == expected == generate(model, image, repetition_penalty=2.0)


def test_an_answer_is_never_empty(model: Blip2, image: Image.Image, stops: Stops) -> None:
    stops(answer(model, image)[0])
    assert answer(model, image)
    assert answer(model, image, GenerationOptions(max_new_tokens=5, quality="best", num_beams=2))


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("quality", ["stream", "best"])
def test_an_answer_has_max_new_tokens_without_stop_tokens(
    model: Blip2, image: Image.Image, stops: Stops, count: int, quality: Quality
) -> None:
    stops()
    assert len(answer(model, image, GenerationOptions(max_new_tokens=count, quality=quality))) == count


def sample(model: Blip2, image: Image.Image, **values: Any) -> list[int]:
    return answer(model, image, GenerationOptions(max_new_tokens=12, **({"temperature": 1.0} | values)))


def test_sampling_depends_on_the_seed_alone(model: Blip2, image: Image.Image) -> None:
    torch.manual_seed(1)
    first = sample(model, image, seed=7)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert sample(model, image, seed=7) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert len({tuple(sample(model, image, seed=seed, temperature=2.0)) for seed in range(6)}) > 1


def test_a_narrow_nucleus_and_a_low_temperature_are_greedy(model: Blip2, image: Image.Image) -> None:
    assert sample(model, image, top_p=0.01) == answer(model, image)
    assert sample(model, image, temperature=0.001) == answer(model, image)


def test_seeds_that_differ_in_any_bit_sample_differently(model: Blip2, image: Image.Image) -> None:
    """Only their parity counted."""
    assert len({tuple(sample(model, image, seed=seed, temperature=2.0)) for seed in (2, 4, 8, 1 << 20, 1 << 31)}) > 3


def test_inference_mode_ends_with_the_step(model: Blip2, image: Image.Image) -> None:
    core = make_core(model)
    add(core, make_request(model, image, PROMPT, GREEDY))
    core.step(1.0)
    assert not torch.is_inference_mode_enabled()


def test_tokenising_in_another_thread_does_not_change_the_answer(model: Blip2, image: Image.Image) -> None:
    counted: list[int] = []
    thread = Thread(target=lambda: counted.extend(len(model.preparation.encode(PROMPT)) for _ in range(200)))
    thread.start()
    during = answer(model, image)
    thread.join()
    assert during == answer(model, image)
    assert set(counted) == {len(model.preparation.encode(PROMPT))}


def test_features_of_a_batch_are_those_of_its_images(model: Blip2, two_images: list[Image.Image]) -> None:
    together = image_features(model, two_images)
    assert together.shape == (2, image_positions(model.preparation), 32)
    alone = torch.cat([image_features(model, [image]) for image in two_images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("named", ["one", "several"])
def test_stop_tokens_of_the_folder_end_an_answer_as_well(
    named: str, folders: dict[str, Path], family: str, model: Blip2, tmp_path: Path, image: Image.Image
) -> None:
    """The BLIP-2 of transformers ignores the generation_config.json of the folder."""
    varied = GenerationOptions(max_new_tokens=12, repetition_penalty=2.0)
    complete = answer(model, image, varied)
    stop = next(token for token in complete[1:] if token != complete[0])
    folder = stored.copy_checkpoint(folders[family], tmp_path / "stops")
    ids = [stop, -1, 10**9, None, "x", True] if named == "several" else stop
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    loaded = load_here(read_folder(folder), "fp32")
    assert answer(loaded, image, varied) == complete[: complete.index(stop)]
    assert stop not in answer(loaded, image, GenerationOptions(max_new_tokens=12, quality="best", num_beams=3))
    assert stop_tokens(loaded._hf_model) == {stop} | stop_tokens(model._hf_model)


@pytest.mark.parametrize("content", ["{}", '{"eos_token_id": null}', "[]", "null", "{", '{"eos_token_id": {}}'])
def test_a_folder_without_valid_stop_tokens_has_those_of_the_language_model(
    content: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = stored.copy_checkpoint(folders["opt"], tmp_path / "stops")
    expected = json.loads((folder / "config.json").read_text())["text_config"]["eos_token_id"]
    (folder / "generation_config.json").write_text(content)
    assert stop_tokens(load_model(read_folder(folder))._hf_model) == {expected}
