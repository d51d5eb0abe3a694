"""Python's collector and captures."""

from __future__ import annotations

import gc
import weakref

import pytest

from blip_space.models.capturing import without_collector


class Node:
    """Refers to itself, so that only the collector finds it."""

    def __init__(self) -> None:
        self.itself = self


def test_no_garbage_is_collected_while_a_capture_lasts() -> None:
    with without_collector():
        assert not gc.isenabled()
        with without_collector():
            garbage = weakref.ref(Node())
        assert not gc.isenabled()
        for _ in range(100_000):  # more than the collector waits for
            [Node()]
        assert garbage() is not None
    assert gc.isenabled()


def test_the_collector_stays_off_until_the_last_of_two_captures_ends() -> None:
    first, second = without_collector(), without_collector()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_the_collector_is_on_again_after_an_error() -> None:
    with pytest.raises(ValueError, match="no"), without_collector():
        raise ValueError("no")
    assert gc.isenabled()
