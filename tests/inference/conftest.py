"""The engines on models of words are those of `tests.serving`."""

from tests.serving.conftest import _one_thread, build, loading

__all__ = ["_one_thread", "build", "loading"]
