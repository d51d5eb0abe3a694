"""Checkpoints of every layout, and the models loaded from them."""

from tests.checkpoints.fixtures import family, folders, loaded, model, two_images
from tests.loading.hub_fixtures import hub
from tests.one_thread import one_thread

__all__ = ["family", "folders", "hub", "loaded", "model", "one_thread", "two_images"]
