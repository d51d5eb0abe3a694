"""Folders of checkpoints with a configuration, and weight files that have headers only."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from blip_space import catalogue
from blip_space.errors import ModelError


def write_folder(path: Path, **config: Any) -> Path:
    """A folder with that configuration and no weights."""
    (path / "config.json").write_text(json.dumps(config), "utf-8")
    return path


def write_weights(path: Path, *names: str, file: str = "model.safetensors") -> Path:
    """A weight file with tensors of those names, each with one element."""
    header = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * index, 4 * index + 4]}
        for index, name in enumerate(names)
    }
    encoded = json.dumps(header).encode()
    (path / file).write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(4 * len(names)))
    return path


OPT = {"model_type": "blip-2", "text_config": {"model_type": "opt"}}


def check_refused(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    """A folder of that configuration raises the same error everywhere, which does not contain the path."""
    write_folder(tmp_path, **config)
    with pytest.raises(ModelError, match=message) as caught:
        catalogue.find_model(str(tmp_path), folders=True)
    assert str(caught.value).endswith(".")
    assert str(tmp_path.parent) not in str(caught.value)
    assert catalogue.find_operator_model(str(tmp_path)).load_error == str(caught.value)
