"""The same small checkpoints of all four families that the tests of loading use."""

from tests.checkpoints.fixtures import family, folders, loaded, model, pictures

__all__ = ["family", "folders", "loaded", "model", "pictures"]
