"""Prompts and masks of different lengths in one tensor, without too much padding."""

from collections.abc import Sequence

import pytest
import torch

from blip_space.engine.kv_cache import BLOCK_TOKENS
from blip_space.engine.padding import group_by_length, length_mask, pad, stack_masks, trimmable_padding
from blip_space.models.interface import Embedded


@pytest.mark.parametrize(
    ("lengths", "parts"),
    [
        ([12], [[12]]),
        ([12, 12, 12, 12], [[12, 12, 12, 12]]),
        ([3, 4, 7, 8, 40], [[3, 4, 7], [8], [40]]),
        ([40, 3], [[40], [3]]),
        ([4, 12, 13], [[4, 12], [13]]),
    ],
)
def test_a_group_has_at_most_max_padding(lengths: Sequence[int], parts: list[list[int]]) -> None:
    assert [list(lengths[part]) for part in group_by_length(lengths, max_padding=8)] == parts


def test_with_large_max_padding_there_is_one_group() -> None:
    assert group_by_length([1, 2, 400], max_padding=10_000) == [slice(0, 3)]


@pytest.mark.parametrize("left", [True, False])
def test_padding_is_on_one_side_and_masked(left: bool) -> None:
    short, long = (
        Embedded(torch.full((length, 2), 7.0), torch.arange(1, 2 * length + 1).view(2, length), 0) for length in (1, 3)
    )
    embeddings, mask, positions = pad([short, long], left=left)
    used = slice(2, 3) if left else slice(0, 1)
    assert (embeddings.shape, mask.shape, positions.shape) == ((2, 3, 2), (2, 3), (2, 2, 3))
    assert embeddings.sum(-1).tolist() == (14 * mask).tolist()
    assert (mask.dtype, mask.tolist()) == (torch.long, [[0, 0, 1] if left else [1, 0, 0], [1, 1, 1]])
    assert positions[:, 0, used].tolist() == [[1], [2]]
    assert positions[:, 0].sum() == 3
    assert positions[:, 1].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_masks_of_two_widths_are_stacked() -> None:
    for left, stacked in ((True, [[0, 0, 1], [0, 1, 1]]), (False, [[1, 0, 0], [1, 1, 0]])):
        wide = length_mask([2], left=left, device=torch.device("cpu"), width=3)
        narrow = length_mask([1], left=left, device=torch.device("cpu"))
        assert stack_masks(narrow, wide, left=left).tolist() == stacked
        assert stack_masks(wide, narrow, left=left).tolist() == stacked[::-1]


def test_padding_that_all_rows_share_is_trimmed_in_blocks() -> None:
    """Less is not worth a copy; without rows there is nothing to copy."""
    block = BLOCK_TOKENS
    assert [trimmable_padding(padding, 2) for padding in (block - 1, block, 2 * block + 1)] == [0, block, 2 * block]
    assert trimmable_padding(block - 1, 0) == block - 1
