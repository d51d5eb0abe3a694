"""The command `folder` on a folder of two images, with models that are loaded once for each module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blip_space import catalogue
from blip_space.apps import cli
from blip_space.loading import loader
from tests.apps.cli.folder_command import FAST, Run
from tests.jobs.folder_fixtures import draw


@pytest.fixture(scope="module")
def _models() -> dict[Any, Any]:
    return {}


@pytest.fixture
def _loads_once(monkeypatch: pytest.MonkeyPatch, _models: dict[Any, Any]) -> None:
    load = loader.load_model

    def load_once(spec: catalogue.ModelSpec, precision: str = "auto", **options: Any) -> Any:
        key = (spec.source, spec.adapter, precision)
        if key not in _models:
            _models[key] = load(spec, precision, **options)
        return _models[key]

    monkeypatch.setattr(loader, "load_model", load_once)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: Path, _loads_once: None) -> Run:
    """Runs the command on the folder; returns its exit code and stderr."""

    def command(*options: object, folder: Path = folder, output: str = "o.jsonl") -> tuple[int, str]:
        code = cli.main(["folder", str(folder), "--output", str(tmp_path / output), *FAST, *map(str, options)])
        return code, capsys.readouterr().err

    return command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image with one red circle, and one with two."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(2):
        draw(folder / f"{number + 1}.png", number)
    return folder
