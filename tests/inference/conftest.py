"""The engines on models of words are those of `tests.serving`."""

from tests.one_thread import one_thread
from tests.serving.conftest import build, loading

__all__ = ["build", "loading", "one_thread"]
