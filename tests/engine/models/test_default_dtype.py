"""An answer does not depend on torch's default dtype.

All threads share it, and transformers changes it while it loads a model, maybe for another GPU of the same process.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from PIL import Image

from blip_space.errors import EmptyAnswerError
from blip_space.models.families.blip2 import Blip2
from blip_space.options import GenerationOptions
from tests.engine.models.driving import add, finish, make_core, make_request

pytestmark = pytest.mark.usefixtures("slots")

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


def test_answers_are_the_same_while_another_model_is_loaded(
    model: Blip2, two_images: list[Image.Image], request: pytest.FixtureRequest
) -> None:
    expected = answers(model, two_images)
    request.getfixturevalue("other_dtype")
    assert answers(model, two_images) == expected
