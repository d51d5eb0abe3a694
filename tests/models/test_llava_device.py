"""A step of a LLaVA over fixed slots copies nothing from a GPU to the host but the chosen ids."""

from __future__ import annotations

from typing import Any

import pytest

from blip_space.catalogue import ModelSpec
from blip_space.engine.model_runner import ModelRunner
from blip_space.engine.request import EngineConfig
from blip_space.models.families.llava import Llava
from blip_space.models.interface import Precision
from tests.checkpoints import llava
from tests.engine.fake_gpu import on_fake_gpu, run_all_steps
from tests.engine.fake_model import FakePreparation
from tests.engine.gpu_fixtures import copied, gpu  # noqa: F401
from tests.engine.test_fake_device import COPIES

VOCABULARY = 400


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("vision", llava.VISION_ENCODERS)
def test_a_step_copies_only_the_chosen_ids_to_the_host(vision: str, copied: list[int]) -> None:  # noqa: F811
    preparation: Any = FakePreparation(ModelSpec("fake", "fake", "llava", "llama", "mblip", 1, ("en",)))
    preparation.query_tokens, preparation.eos_token_ids = llava.POSITIONS[vision], frozenset()

    def build(hf_model: Any, precision: Precision) -> Llava:
        return Llava(hf_model, preparation, precision=precision)

    with on_fake_gpu(llava.make_hf_model(vision, VOCABULARY), build) as model:
        runner = ModelRunner(model, EngineConfig())
        run_all_steps(runner, model)
        assert copied == COPIES
        assert runner.prefixes.hits == 1
