"""The memory of a model that is unloaded."""

from __future__ import annotations

import weakref

import pytest

from blip_space.catalogue.folder import read_folder
from blip_space.engine.core import EngineCore
from blip_space.engine.request import EngineConfig
from tests.checkpoints.fixtures import Folders
from tests.devices import load_here


@pytest.mark.parametrize("name", ["opt", "t5"])
@pytest.mark.parametrize("slots", [False, True])
def test_a_closed_core_holds_no_weights(folders: Folders, name: str, slots: bool) -> None:
    """The caller that unloads a model has the core until another one is loaded, which needs the memory."""
    model = load_here(read_folder(folders[name]))
    weights = [weakref.ref(weight) for weight in model._hf_model.parameters()]
    core = EngineCore(model, EngineConfig(slots=slots))
    core.close()
    assert not any(weight() is not None for weight in weights)
    assert core.decode_mode[0] == "eager", "as another thread may still ask"
