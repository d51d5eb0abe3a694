"""An answer does not depend on torch's default dtype.

All threads share it, and transformers changes it while it loads a model, maybe for another GPU of the same process.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from PIL import Image

from blip_space.engine.beam_search import advance
from blip_space.errors import EmptyAnswerError
from blip_space.models.families.blip2 import Blip2
from blip_space.models.fused.bloom import alibi_slopes
from blip_space.options import GenerationOptions
from tests.engine.models.driving import add, finish, make_core, make_request
from tests.engine.models.test_beam_search import make_search

OPTIONS = (
    GenerationOptions(max_new_tokens=9),
    GenerationOptions(max_new_tokens=9, repetition_penalty=1.3),
    GenerationOptions(max_new_tokens=9, temperature=0.7, top_p=0.8, seed=1),
    GenerationOptions(max_new_tokens=9, quality="best", num_beams=3, length_penalty=0.7, repetition_penalty=1.1),
)


@pytest.fixture
def other_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.bfloat16)
    yield
    torch.set_default_dtype(torch.float32)


def answers(model: Blip2, images: list[Image.Image]) -> list[list[int]]:
    core = make_core(model)
    requests = [make_request(model, image, "how many cats?", each) for each in OPTIONS for image in images]
    sequences = [add(core, request) for request in requests]
    finish(core)
    assert all(sequence.error is None or isinstance(sequence.error, EmptyAnswerError) for sequence in sequences)
    return [sequence.ids for sequence in sequences]


@pytest.mark.usefixtures("slots")
def test_answers_are_the_same_while_another_model_is_loaded(
    model: Blip2, two_images: list[Image.Image], request: pytest.FixtureRequest
) -> None:
    expected = answers(model, two_images)
    request.getfixturevalue("other_dtype")
    assert answers(model, two_images) == expected


@pytest.mark.parametrize("seed", [170, 315, 346])
def test_beams_are_the_same(seed: int, request: pytest.FixtureRequest) -> None:
    """These seeds have beams of different lengths and almost equal scores."""
    table = torch.randn(9, 9, generator=torch.Generator().manual_seed(seed))

    def best() -> list[int]:
        search = make_search((3, 1.3, 1.0, 7), frozenset({3, 5}), start=[0])
        logits = table[[0]]
        while not search.done:
            advance([search], logits)
            logits = table[search.tokens]
        return search.best_tokens

    expected = best()
    request.getfixturevalue("other_dtype")
    assert best() == expected


def test_the_slopes_of_alibi_are_the_same(request: pytest.FixtureRequest) -> None:
    expected = alibi_slopes(12)
    request.getfixturevalue("other_dtype")
    assert torch.equal(alibi_slopes(12), expected)
