"""What a model writes: token for token what transformers' own `generate` writes, for every family."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import Blip2ForConditionalGeneration, Blip2Processor

from blip_space.catalogue import read_folder
from blip_space.model.blip2 import Blip2
from blip_space.model.loader import load
from blip_space.model.tokens import stop_tokens
from blip_space.options import GenerationOptions
from tests.model import stored

pytestmark = pytest.mark.filterwarnings("ignore:Passing .repetition_penalty.")  # by the `generate` compared with

PROMPT = "Question: how many cats are there? Answer:"
GREEDY = GenerationOptions(max_new_tokens=12)


@pytest.fixture(scope="module")
def prefix(model: Blip2, pictures: list[Image.Image]) -> torch.Tensor:
    return model.encode(pictures[:1])


@pytest.fixture
def settings(model: Blip2) -> Iterator[Any]:
    """The language model's generation settings, put back afterwards."""
    settings = model._network.language_model.generation_config
    before = settings.eos_token_id
    yield settings
    settings.eos_token_id = before


def write(model: Blip2, prefix: torch.Tensor, options: GenerationOptions = GREEDY) -> list[int]:
    return list(model.stream(model.prompt(prefix, PROMPT, options)))


def search(model: Blip2, prefix: torch.Tensor, options: GenerationOptions) -> list[int]:
    return model.search([model.prompt(prefix, PROMPT, options)], should_stop=lambda: False)[0]


def generate(model: Blip2, prefix: torch.Tensor, **settings: Any) -> list[int]:
    """`language_model.generate` over the same embeddings: the new tokens up to the first stop."""
    language_model = model._network.language_model
    embeds = model._embed(model.prompt(prefix, PROMPT, GREEDY))[None]
    with torch.inference_mode():
        ids: list[int] = language_model.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
            **({"min_new_tokens": 1, "max_new_tokens": 12} | settings),
        )[0].tolist()
    new = ids[int(language_model.config.is_encoder_decoder) :]
    stop = stop_tokens(language_model)
    return new[: next((place for place, token in enumerate(new) if token in stop), len(new))]


@pytest.mark.parametrize("which", [0, 1])
def test_stream_equals_the_whole_models_generate(
    model: Blip2, folders: dict[str, Path], family: str, pictures: list[Image.Image], which: int
) -> None:
    processor = Blip2Processor.from_pretrained(folders[family])
    network = Blip2ForConditionalGeneration.from_pretrained(folders[family])
    inputs = processor(images=pictures[which], text=PROMPT, return_tensors="pt")
    ids = network.generate(**inputs, min_new_tokens=1, max_new_tokens=12)[0].tolist()
    read = 1 if network.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    written = write(model, model.encode([pictures[which]]))
    assert written == [token for token in ids[read:] if token not in stop_tokens(network)]
    assert written


def test_stream_equals_the_language_models_generate(model: Blip2, prefix: torch.Tensor) -> None:
    assert write(model, prefix) == generate(model, prefix)


@pytest.mark.parametrize("penalty", [1.1, 2.0])
def test_repetition_penalty_is_generates(model: Blip2, prefix: torch.Tensor, penalty: float) -> None:
    options = GenerationOptions(max_new_tokens=12, repetition_penalty=penalty)
    assert write(model, prefix, options) == generate(model, prefix, repetition_penalty=penalty)


@pytest.mark.parametrize("length_penalty", [1.0, -1.0])
def test_search_equals_generate_with_beams(model: Blip2, prefix: torch.Tensor, length_penalty: float) -> None:
    options = GenerationOptions(max_new_tokens=12, quality="best", num_beams=5, length_penalty=length_penalty)
    found = search(model, prefix, options)
    assert found == generate(model, prefix, num_beams=5, length_penalty=length_penalty)
    assert found


@pytest.mark.parametrize("several", [False, True])
def test_answer_ends_before_the_stop_token(model: Blip2, prefix: torch.Tensor, settings: Any, several: bool) -> None:
    varied = GenerationOptions(max_new_tokens=12, repetition_penalty=2.0)
    whole = write(model, prefix, varied)
    stop = next(token for token in whole[1:] if token != whole[0])
    settings.eos_token_id = [whole[0] + 1000, stop] if several else stop
    expected = whole[: whole.index(stop)]
    assert write(model, prefix, varied) == expected == generate(model, prefix, repetition_penalty=2.0)


def test_answer_is_never_empty(model: Blip2, prefix: torch.Tensor, settings: Any) -> None:
    settings.eos_token_id = write(model, prefix)[0]
    assert write(model, prefix)
    assert search(model, prefix, GenerationOptions(max_new_tokens=5, quality="best", num_beams=2))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_no_more_tokens_than_asked_for(model: Blip2, prefix: torch.Tensor, settings: Any, count: int) -> None:
    settings.eos_token_id = None
    assert write(model, prefix, GenerationOptions(max_new_tokens=count)) == write(model, prefix)[:count]


def sample(model: Blip2, prefix: torch.Tensor, **values: Any) -> list[int]:
    return write(model, prefix, GenerationOptions(max_new_tokens=12, **({"temperature": 1.0} | values)))


def test_sampling_depends_on_the_seed_alone(model: Blip2, prefix: torch.Tensor) -> None:
    torch.manual_seed(1)
    first = sample(model, prefix, seed=7)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert sample(model, prefix, seed=7) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert len({tuple(sample(model, prefix, seed=seed, temperature=2.0)) for seed in range(6)}) > 1


def test_narrow_nucleus_and_cold_samples_are_greedy(model: Blip2, prefix: torch.Tensor) -> None:
    assert sample(model, prefix, top_p=0.01) == write(model, prefix)
    assert sample(model, prefix, temperature=0.001) == write(model, prefix)


def test_answers_do_not_meet(model: Blip2, pictures: list[Image.Image]) -> None:
    """Two answers written by turns are the two written alone."""
    prefixes = model.encode(pictures)
    alone = [write(model, prefixes[at : at + 1]) for at in range(2)]
    streams = [model.stream(model.prompt(prefixes[at : at + 1], PROMPT, GREEDY)) for at in range(2)]
    together: list[list[int]] = [[], []]
    for pair in zip(*streams, strict=False):
        for written, token in zip(together, pair, strict=True):
            written.append(token)
    shortest = min(map(len, together))
    assert [ids[:shortest] for ids in alone] == [ids[:shortest] for ids in together]


def test_inference_mode_stays_inside(model: Blip2, prefix: torch.Tensor) -> None:
    for _ in model.stream(model.prompt(prefix, PROMPT, GREEDY)):
        assert not torch.is_inference_mode_enabled()


def test_stream_may_be_left_at_any_token(model: Blip2, prefix: torch.Tensor) -> None:
    stream = model.stream(model.prompt(prefix, PROMPT, GREEDY))
    assert len(list(islice(stream, 1))) == 1
    del stream
    assert write(model, prefix) == generate(model, prefix)


def test_search_stops_when_asked(model: Blip2, prefix: torch.Tensor, settings: Any) -> None:
    settings.eos_token_id = None
    asked: list[bool] = []

    def should_stop() -> bool:
        asked.append(True)
        return len(asked) >= 3

    options = GenerationOptions(max_new_tokens=12, quality="best", num_beams=3)
    (found,) = model.search([model.prompt(prefix, PROMPT, options)], should_stop=should_stop)
    assert len(found) == 3
    assert len(asked) == 3


def test_counting_from_another_thread_leaves_the_answer_alone(model: Blip2, prefix: torch.Tensor) -> None:
    counted: list[int] = []
    thread = Thread(target=lambda: counted.extend(model.count_tokens(PROMPT) for _ in range(200)))
    thread.start()
    written = write(model, prefix)
    thread.join()
    assert written == write(model, prefix)
    assert set(counted) == {model.count_tokens(PROMPT)}


def test_batch_of_pictures_is_its_pictures(model: Blip2, pictures: list[Image.Image]) -> None:
    together = model.encode(pictures)
    assert together.shape == (2, model.query_tokens, 32)
    assert torch.allclose(together, torch.cat([model.encode([one]) for one in pictures]), atol=1e-5)


@pytest.mark.parametrize("named", ["one", "several"])
def test_the_folders_own_stop_tokens_end_an_answer_as_well(
    named: str, folders: dict[str, Path], family: str, model: Blip2, tmp_path: Path, prefix: torch.Tensor
) -> None:
    """transformers' BLIP-2 never looks at the generation_config.json of the whole."""
    varied = GenerationOptions(max_new_tokens=12, repetition_penalty=2.0)
    whole = write(model, prefix, varied)
    stop = next(token for token in whole[1:] if token != whole[0])
    folder = stored.copy(folders[family], tmp_path / "stops")
    ids = [stop, -1, 10**9, None, "x", True] if named == "several" else stop
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    ours = load(read_folder(folder), "fp32")
    assert write(ours, prefix, varied) == whole[: whole.index(stop)]
    assert stop not in search(ours, prefix, GenerationOptions(max_new_tokens=12, quality="best", num_beams=3))
    assert stop_tokens(ours._network) == {stop} | stop_tokens(model._network)


@pytest.mark.parametrize("content", ["{}", '{"eos_token_id": null}', "[]", "null", "{", '{"eos_token_id": {}}'])
def test_a_folder_without_usable_stop_tokens_has_the_language_models(
    content: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = stored.copy(folders["opt"], tmp_path / "stops")
    expected = json.loads((folder / "config.json").read_text())["text_config"]["eos_token_id"]
    (folder / "generation_config.json").write_text(content)
    assert stop_tokens(load(read_folder(folder))._network) == {expected}
