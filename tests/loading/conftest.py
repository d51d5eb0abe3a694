"""Checkpoints of every layout, and the models loaded from them."""

from tests.checkpoints.fixtures import family, folders, model, two_images
from tests.checkpoints.fixtures import loaded_on_processor as loaded
from tests.devices import auto_is_the_processor
from tests.loading.hub_fixtures import hub
from tests.one_thread import one_thread

__all__ = ["auto_is_the_processor", "family", "folders", "hub", "loaded", "model", "one_thread", "two_images"]
