"""BLIP-2 checkpoints with each type of language model, written once, and the models loaded from them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from blip_space.catalogue import ModelSpec, read_folder
from blip_space.loading.loader import load_model
from blip_space.loading.selftest import make_test_images
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import VisionLanguageModel
from tests.checkpoints import blip2
from tests.devices import load_here
from tests.one_thread import one_thread  # noqa: F401  # a fixture

Folders = dict[str, Path]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A checkpoint in the present layout by type of language model. Read only."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {name: blip2.write(root / name, name) for name in blip2.LANGUAGE_MODELS}


@pytest.fixture(scope="session")
def loaded(folders: Folders) -> Callable[[str], Blip2]:
    """The model of a checkpoint in `folders`, loaded at most once, on a GPU where there is one."""
    return _load_once(folders, load_here)


@pytest.fixture(scope="session")
def loaded_on_processor(folders: Folders) -> Callable[[str], Blip2]:
    """The same, always on the processor."""
    return _load_once(folders, load_model)


def _load_once(folders: Folders, load: Callable[[ModelSpec], VisionLanguageModel]) -> Callable[[str], Blip2]:
    models: dict[str, Blip2] = {}

    def get_model(name: str) -> Blip2:
        if name not in models:
            model = load(read_folder(folders[name]))
            assert isinstance(model, Blip2)
            models[name] = model
        return models[name]

    return get_model


@pytest.fixture(scope="session", params=blip2.LANGUAGE_MODELS)
def family(request: pytest.FixtureRequest) -> str:
    """Each type of language model in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def model(family: str, loaded: Callable[[str], Blip2]) -> Blip2:
    """The model with each type of language model in turn."""
    return loaded(family)


@pytest.fixture(scope="session")
def two_images() -> list[Image.Image]:
    return make_test_images()
