"""Checkpoints of all four families, written once, and the models that the loader makes of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from blip_space.catalogue import read_folder
from blip_space.loading.loader import load_model
from blip_space.loading.selftest import make_test_images
from blip_space.models.families.blip2 import Blip2
from tests.checkpoints import blip2
from tests.one_thread import one_thread  # noqa: F401  # a fixture

Folders = dict[str, Path]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A checkpoint in today's layout by family. Read only."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {family: blip2.write(root / family, family) for family in blip2.LANGUAGE_MODELS}


@pytest.fixture(scope="session")
def loaded(folders: Folders) -> Callable[[str], Blip2]:
    """The model of a family, loaded at most once."""
    models: dict[str, Blip2] = {}

    def of(family: str) -> Blip2:
        if family not in models:
            found = load_model(read_folder(folders[family]))
            assert isinstance(found, Blip2)
            models[family] = found
        return models[family]

    return of


@pytest.fixture(scope="session", params=blip2.LANGUAGE_MODELS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def model(family: str, loaded: Callable[[str], Blip2]) -> Blip2:
    """One loaded model of each family in turn."""
    return loaded(family)


@pytest.fixture(scope="session")
def two_images() -> list[Image.Image]:
    return make_test_images()
