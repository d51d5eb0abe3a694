"""Prompts of about one length are read together, and nobody is read as long as a stranger's long prompt."""

from collections.abc import Sequence

import pytest

from blip_space.engine.padding import group_by_length


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
def test_a_group_has_no_more_padding_than_is_allowed(lengths: Sequence[int], parts: list[list[int]]) -> None:
    assert [list(lengths[part]) for part in group_by_length(lengths, most_padding=8)] == parts


def test_where_passes_are_expensive_there_is_one() -> None:
    assert group_by_length([1, 2, 400], most_padding=10_000) == [slice(0, 3)]
