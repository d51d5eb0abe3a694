"""A local hub with one model, and ways to lose it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from blip_space.catalogue import ModelSpec
from tests.checkpoints import blip2
from tests.loading.fake_hub import Hub, serve


def hub_spec(source: str) -> ModelSpec:
    return ModelSpec(source.split("/")[1], source, "blip2", "mt5", "mblip", 40_000, ("en",))


@pytest.fixture
def hub(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository, which also has a pickle of its weights, and an empty cache."""
    published = tmp_path / "published"
    shutil.copytree(folders["mt5"], published)
    (published / "pytorch_model.bin").write_bytes(b"the same weights")
    (published / "README.md").write_text("not needed")
    old = blip2.write_old(tmp_path / "old", folders["mt5"])
    (old / "model.safetensors").rename(old / "pytorch_model.bin")
    refusals = {"some/gated": (403, "GatedRepo"), "some/private": (401, "RepoNotFound")}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serve(Hub({"some/mt": published, "some/old": old}, refusals)) as hub:
        connect(monkeypatch, hub.url)
        yield hub


def connect(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def disconnect(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        connect(monkeypatch, "http://127.0.0.1:9")
