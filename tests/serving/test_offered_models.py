"""Laws of the names of offered models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blip_space.errors import ModelError
from blip_space.serving.offered_models import OfferedModels
from tests.engine.fake_model import spec


def test_a_model_is_found_by_its_name_or_repository_in_any_case_and_never_by_path() -> None:
    hub = replace(spec("hub"), source="Somebody/Blip2-Hub")
    folder = replace(spec("folder"), source="/models/secret", is_folder=True)
    offered = OfferedModels([hub, folder])
    for name, expected in {"": hub, "HUB": hub, " somebody/blip2-hub ": hub, "Folder": folder}.items():
        assert offered.find(name) is expected
    with pytest.raises(ModelError, match=r"There is no model .* here\. Choose among hub, folder\."):
        offered.find("/models/secret")
