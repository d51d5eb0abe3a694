"""Checkpoints of every layout, and the models loaded from them."""

from tests.checkpoints.fixtures import family, folders, loaded, model, two_images
from tests.devices import auto_is_the_processor
from tests.one_thread import one_thread

__all__ = ["auto_is_the_processor", "family", "folders", "loaded", "model", "one_thread", "two_images"]
