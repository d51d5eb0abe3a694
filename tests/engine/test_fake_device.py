"""With fixed slots, a complete step copies nothing from a GPU but the sampled ids, for every language model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from blip_space.catalogue import ModelSpec
from blip_space.engine.model_runner import ModelRunner
from blip_space.engine.request import EngineConfig
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import Precision, VisionLanguageModel
from tests.checkpoints import blip2
from tests.engine.fake_gpu import GPU, HostCopyError, on_fake_gpu, run_all_steps
from tests.engine.fake_model import FakePreparation
from tests.engine.gpu_fixtures import copied, gpu  # noqa: F401

COPIES = [3, 3, 2, 2, 2, 4, 3, 3, 1]
"""The number of ids that each forward pass of `run_all_steps` copies to the host, in the order in which it reads them.
Every decode but the last was launched before the ids of the one before were read."""


@pytest.fixture(params=blip2.LANGUAGE_MODELS)
def model(request: pytest.FixtureRequest, gpu: None) -> Iterator[VisionLanguageModel]:  # noqa: ARG001, F811
    """A BLIP-2 with each language model in turn."""
    preparation = FakePreparation(ModelSpec("fake", "fake", "blip2", request.param, "mblip", 1, ("en",)))
    preparation.query_tokens = blip2.QUERY_TOKENS[request.param]
    hf_model = blip2.make_hf_model(request.param, blip2.make_tokenizer(request.param), seed=0)

    def build(hf_model: Any, precision: Precision) -> Blip2:
        return Blip2(hf_model, preparation, precision=precision)

    with on_fake_gpu(hf_model, build) as model:
        yield model


def test_a_step_copies_nothing_to_the_host_but_the_sampled_ids(model: VisionLanguageModel, copied: list[int]) -> None:  # noqa: F811
    runner = ModelRunner(model, EngineConfig())
    run_all_steps(runner, model)
    assert copied == COPIES
    assert runner.prefixes.hits == (1 if model.spec.decoder_only else 0)


READS: dict[str, Callable[[torch.Tensor], Any]] = {
    "item": lambda logits: logits.max().item(),
    "bool": lambda logits: bool(logits.isnan().any()),
    "tolist": lambda logits: logits.argmax(-1).tolist(),
    "cpu": lambda logits: logits.cpu(),
    "nonzero": lambda logits: logits.nonzero(),
    "mask as an index": lambda logits: logits[logits > 0],
    "list as an index": lambda logits: logits[[0]],
    "tensor of the tensor": lambda logits: torch.tensor([logits[0, 0]]),
}


@pytest.mark.parametrize("model", ["opt"], indirect=True)
@pytest.mark.parametrize(
    ("method", "read"),
    [
        *(("decode", read) for read in READS),
        *((method, "item") for method in ("prefill", "merge", "select", "copy")),
    ],
)
@pytest.mark.usefixtures("copied")
def test_every_host_synchronisation_in_a_step_raises(
    model: VisionLanguageModel, method: str, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = ModelRunner(model, EngineConfig())
    batch = type(runner._batch)
    plain = getattr(batch, method)

    def reading(*args: Any) -> Any:
        READS[read](torch.zeros(2, 3, device=GPU))
        return plain(*args)

    monkeypatch.setattr(batch, method, reading)
    with pytest.raises(RuntimeError):  # also from torch's own checks
        run_all_steps(runner, model)


@pytest.mark.parametrize("model", blip2.LANGUAGE_MODELS, indirect=True)
@pytest.mark.usefixtures("copied")
def test_what_a_graph_captures_copies_nothing_from_the_host(
    model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number in a kernel's arguments is none; a tensor from numbers is."""
    forward = type(model.decoder).forward

    def copying(*args: Any, **kwargs: Any) -> torch.Tensor:
        logits: torch.Tensor = forward(*args, **kwargs) * scale()
        return logits

    scale: Callable[[], Any] = lambda: 2.0  # noqa: E731
    monkeypatch.setattr(type(model.decoder), "forward", copying)
    run_all_steps(ModelRunner(model, EngineConfig()), model)
    scale = lambda: torch.tensor([2.0], device=GPU)  # noqa: E731
    with pytest.raises(HostCopyError):
        run_all_steps(ModelRunner(model, EngineConfig()), model)
