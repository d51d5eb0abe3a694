"""Folders of drawn images, and the engines of `tests.serving`."""

from tests.devices import auto_is_the_processor
from tests.jobs.folder_fixtures import image_folder, tiny
from tests.one_thread import one_thread
from tests.serving.conftest import build, loading

__all__ = ["auto_is_the_processor", "build", "image_folder", "loading", "one_thread", "tiny"]
