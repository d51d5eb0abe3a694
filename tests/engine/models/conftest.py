"""The small checkpoints of all language models that the tests of loading use."""

from tests.checkpoints.fixtures import family, folders, loaded, model, two_images

__all__ = ["family", "folders", "loaded", "model", "two_images"]
