"""Folders of drawn images, and the engines of `tests.serving`."""

from tests.jobs.folder_fixtures import pictures, tiny
from tests.one_thread import one_thread
from tests.serving.conftest import build, loading

__all__ = ["build", "loading", "one_thread", "pictures", "tiny"]
