"""Ids and positions are checked on the host, before a GPU looks them up."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from blip_space.models.decoders import CausalDecoder
from blip_space.models.interface import check_ids, merge_image_features
from blip_space.models.preparation import Prompt
from tests.models.small_decoders import bloom, llama, opt

CPU = torch.device("cpu")


class FailingTable(torch.nn.Embedding):
    """A table that no id may reach."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # torch's name
        raise AssertionError(f"{input} was looked up")


@pytest.mark.parametrize("ids", [(3, 8), (-1, 3)])
def test_a_token_outside_the_vocabulary_is_never_looked_up(ids: tuple[int, ...]) -> None:
    with pytest.raises(IndexError, match=r"is not among the 8 of the model"):
        merge_image_features(Prompt("", ids, ()), [], FailingTable(8, 4), device=CPU)


def test_every_token_of_the_vocabulary_is_looked_up() -> None:
    table = torch.nn.Embedding(8, 4)
    check_ids((), table)
    embeddings = merge_image_features(Prompt("", (0, 7), ()), [], table, device=CPU)
    assert torch.equal(embeddings, table.weight[[0, 7]])


@pytest.mark.parametrize(("build", "positions"), [(opt, 32), (bloom, None), (llama, None)])
def test_the_limit_of_positions_is_that_of_the_models_table(build: Any, positions: int | None) -> None:
    model = build()
    decoder = CausalDecoder(model.base_model, model.get_output_embeddings(), builds_own_mask=build is bloom)
    assert decoder.max_positions == positions
    if positions is None:
        return
    ids, last = torch.tensor([[1]]), torch.tensor([[[positions - 1]]])
    decoder.forward(ids=ids, positions=last, mask=None, key_values=None)
    with pytest.raises(IndexError):
        decoder.forward(ids=ids, positions=last + 1, mask=None, key_values=None)


@pytest.mark.parametrize("build", [opt, bloom, llama])
def test_a_head_chooses_no_token_that_the_table_does_not_have(build: Any) -> None:
    """So a generated token needs no check."""
    model = build()
    assert len(model.get_output_embeddings().weight) <= len(model.get_input_embeddings().weight)
