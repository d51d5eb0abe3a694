"""Each of several beam searches in one batch equals `generate`, token for token."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from blip_space import catalogue
from blip_space.engine.batch import new_batch
from blip_space.engine.beam_search import BeamSearch, advance
from blip_space.models.interface import Embedded, VisionLanguageModel
from blip_space.options import GenerationOptions
from tests.checkpoints import blip2
from tests.checkpoints.generation import embed_text, image_features
from tests.devices import load_here

pytestmark = pytest.mark.filterwarnings("ignore:Passing .repetition_penalty.")  # by the `generate` compared with

PROMPTS = ("Question: how many cats are there? Answer:", "a photo of", "Caption the image in German.")
STOPS = ("its own", "likely", "several", "none")
BEAMS, LENGTH_PENALTIES, REPETITION_PENALTIES, LONGEST = (2, 5), (-1.0, 0.0, 1.0, 2.0), (1.0, 1.3), (1, 2, 7, 20)

Settings = tuple[int, float, float, int]


@pytest.fixture(scope="module", params=(*blip2.LANGUAGE_MODELS, "embedded"))
def model(request: pytest.FixtureRequest, loaded: Any) -> VisionLanguageModel:
    """A model with each language model in turn, and the embedded one, as transformers has it."""
    is_embedded = request.param == "embedded"
    spec = replace(catalogue.find_model("tiny"), photo_encoder=False)
    return load_here(spec, "fp32") if is_embedded else loaded(request.param)


@pytest.fixture(scope="module")
def prompts(model: VisionLanguageModel, two_images: list[Image.Image]) -> list[Embedded]:
    (features,) = image_features(model, two_images[:1])
    return [embed_text(model, features, text) for text in PROMPTS]


@pytest.fixture(params=STOPS)
def stop(
    request: pytest.FixtureRequest, model: VisionLanguageModel, prompts: list[Embedded]
) -> Iterator[frozenset[int]]:
    """No, one or several stop tokens; likely ones end beams early."""
    settings = model._hf_model.language_model.generation_config
    before = settings.eos_token_id
    settings.eos_token_id = None
    ids = generate(model, prompts[0], (5, 1.0, 1.3, 20), frozenset())
    stop_ids = {
        "its own": [before],
        "likely": ids[2:3],
        "several": [*ids[1:4:2], before],
        "none": [],
    }[request.param]
    settings.eos_token_id = sorted(set(stop_ids)) or None
    yield frozenset(stop_ids)
    settings.eos_token_id = before


def generate(model: VisionLanguageModel, prompt: Embedded, settings: Settings, stop: frozenset[int]) -> list[int]:
    """The new tokens of `generate` up to the first stop token."""
    beams, length_penalty, repetition_penalty, longest = settings
    language_model = model._hf_model.language_model
    with torch.inference_mode():
        ids: list[int] = language_model.generate(
            inputs_embeds=prompt.embeddings[None],
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long, device=model.decoder.device),
            do_sample=False,
            num_beams=beams,
            length_penalty=length_penalty,
            repetition_penalty=repetition_penalty,
            min_new_tokens=1,
            max_new_tokens=longest,
        )[0].tolist()
    new = ids[len(prompt.start) :]
    return new[: next((index for index, token in enumerate(new) if token in stop), len(new))]


def make_search(settings: Settings, stop: frozenset[int], *, start: Sequence[int]) -> BeamSearch:
    beams, length_penalty, repetition_penalty, longest = settings
    options = GenerationOptions(
        max_new_tokens=longest,
        repetition_penalty=repetition_penalty,
        quality="best",
        num_beams=beams,
        length_penalty=length_penalty,
    )
    return BeamSearch(options, stop=stop, start=start)


def search_together(
    model: VisionLanguageModel, prompts: Sequence[Embedded], searches: Sequence[BeamSearch], *, slots: bool
) -> None:
    """Run all searches in one batch, each until it is done."""
    batch = new_batch(model.decoder, slots=slots)
    running, logits = list(searches), batch.prefill(prompts)
    while running:
        first, parents, tokens = 0, list[int](), list[int]()
        advanced, running = running, []
        sizes = [search.num_rows for search in advanced]
        advance(advanced, logits)
        for search, size in zip(advanced, sizes, strict=True):
            if not search.done:
                running.append(search)
                parents += [first + parent for parent in search.parents]
                tokens += search.tokens
            first += size
        if running:
            batch.select(parents)
            logits = batch.decode(tokens)


def settings_for(number: int) -> list[Settings]:
    """Half of the combinations; the next number has the other half."""
    combinations = product(BEAMS, LENGTH_PENALTIES, REPETITION_PENALTIES, LONGEST)
    indices = product(*(range(len(values)) for values in (BEAMS, LENGTH_PENALTIES, REPETITION_PENALTIES, LONGEST)))
    return [settings for settings, index in zip(combinations, indices, strict=True) if (sum(index) + number) % 2 == 0]


def test_searches_in_one_batch_each_equal_generate(
    model: VisionLanguageModel,
    prompts: list[Embedded],
    stop: frozenset[int],
    slots: bool,
    request: pytest.FixtureRequest,
) -> None:
    settings = settings_for(STOPS.index(request.node.callspec.params["stop"]))
    repeated = [prompts[index % len(prompts)] for index in range(len(settings))]
    searches = [make_search(row, stop, start=prompt.start) for row, prompt in zip(settings, repeated, strict=True)]
    search_together(model, repeated, searches, slots=slots)
    expected = [generate(model, prompt, row, stop) for prompt, row in zip(repeated, settings, strict=True)]
    assert [search.best_tokens for search in searches] == expected


class Bigrams(PreTrainedModel, GenerationMixin):  # type: ignore[misc]  # transformers has no types here
    """A language model whose logits depend on the last token only: a row of this table."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__(PretrainedConfig(vocab_size=len(table), is_encoder_decoder=False, num_hidden_layers=1))
        self.table = torch.nn.Parameter(table, requires_grad=False)
        self.generation_config = GenerationConfig()

    def forward(self, input_ids: torch.Tensor, **_: Any) -> CausalLMOutput:
        return CausalLMOutput(logits=self.table[input_ids])

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        return {"input_ids": input_ids}


@pytest.mark.parametrize("number", range(200))
def test_ties_small_vocabularies_and_many_stop_tokens_equal_generate(number: int) -> None:
    rng = random.Random(number)
    size, step = rng.choice((6, 9, 20, 60, 150, 2000)), rng.choice((0, 0.25, 1))
    table = torch.randn(size, size, generator=torch.Generator().manual_seed(number)) * rng.choice((0.5, 2, 4))
    if step:  # many equal logits, as in bf16
        table = (table / step).round() * step
    stop = rng.sample(range(1, size), rng.choice((0, 1, 2, 4)))
    table[:, stop] += rng.choice((0, 1, 3))
    length_penalty, repetition_penalty = rng.choice((-1.0, 0.0, 0.7, 1.0, 2.0)), rng.choice((1.0, 1.3))
    settings = rng.choice((2, 3, 5)), length_penalty, repetition_penalty, rng.choice((2, 7, 20))
    expected = Bigrams(table).generate(
        torch.tensor([[0]]),
        do_sample=False,
        num_beams=settings[0],
        length_penalty=settings[1],
        repetition_penalty=settings[2],
        min_new_tokens=1,
        max_new_tokens=settings[3],
        eos_token_id=sorted(stop) or None,
        pad_token_id=0,
    )[0, 1:]
    ends = [index for index, token in enumerate(expected.tolist()) if token in stop]
    search = make_search(settings, frozenset(stop), start=[0])
    logits = table[[0]]
    while not search.done:
        advance([search], logits)
        logits = table[search.tokens]
    assert search.best_tokens == expected.tolist()[: min(ends, default=len(expected))]


def test_the_best_beam_is_available_after_every_step() -> None:
    table = torch.randn(50, 50, generator=torch.Generator().manual_seed(1))
    search = make_search((3, 1.0, 1.0, 9), frozenset(), start=[])
    assert search.best_tokens == []
    logits = table[[0]]
    for length in range(1, 10):
        advance([search], logits)
        assert len(search.best_tokens) == search.length == length
        logits = table[search.tokens]
    assert search.done


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_fail_their_own_search(number: float) -> None:
    table = torch.randn(50, 50, generator=torch.Generator().manual_seed(1))
    searches = [make_search((3, 1.0, 1.0, 4), frozenset({7}), start=[]) for _ in range(3)]
    advance(searches, table[[0, 0, 0]])
    logits = torch.cat([table[search.tokens] for search in searches])
    logits[4] = number  # a beam of the second
    advance(searches, logits)
    assert [search.failed for search in searches] == [False, True, False]
    assert searches[1].done
    assert searches[1].best_tokens == []
    assert searches[0].best_tokens == searches[2].best_tokens != []
