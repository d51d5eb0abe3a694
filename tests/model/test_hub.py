"""A catalogue's row: downloaded once, found again offline, and each refusal in a sentence."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from blip_space.catalogue import ModelSpec
from blip_space.errors import ModelError
from blip_space.model.checkpoint import locate
from blip_space.model.loader import load
from blip_space.model.steps import Step
from tests.model import checkpoints
from tests.model.hub import Hub, serve


def row(source: str) -> ModelSpec:
    return ModelSpec(source.split("/")[1], source, "mt5", "mblip", 40_000, ("en",))


@pytest.fixture
def hub(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository, which holds its weights twice, and an empty cache."""
    published = tmp_path / "published"
    shutil.copytree(folders["mt5"], published)
    (published / "pytorch_model.bin").write_bytes(b"the same once more")
    (published / "README.md").write_text("not needed")
    old = checkpoints.write_old(tmp_path / "old", folders["mt5"])
    (old / "model.safetensors").rename(old / "pytorch_model.bin")
    refusals = {"some/gated": (403, "GatedRepo"), "some/private": (401, "RepoNotFound")}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with serve(Hub({"some/mt": published, "some/old": old}, refusals)) as hub:
        _connect(monkeypatch, hub.url)
        yield hub


def _connect(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def test_row_is_downloaded_and_answers(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    assert load(row("some/mt")).spec.name == "mt"
    assert "model.safetensors" in hub.asked
    assert not {"pytorch_model.bin", "README.md"} & set(hub.asked)
    assert capfd.readouterr() == ("", "")


def test_a_pickle_is_not_even_downloaded(hub: Hub, tmp_path: Path) -> None:
    assert "a pickle may run code" in _told("some/old", tmp_path)
    assert "pytorch_model.bin" not in hub.asked


@pytest.mark.usefixtures("hub")
def test_the_download_is_told_byte_by_byte_and_then_the_load() -> None:
    steps: list[Step] = []
    load(row("some/mt"), tell=steps.append)
    downloads = [step for step in steps if step.doing == "download"]
    assert downloads[-1].done == downloads[-1].total > 100_000
    assert [step.done for step in downloads] == sorted(step.done for step in downloads)
    loads = [step for step in steps if step.doing == "load"]
    assert steps[-1] == loads[-1]
    assert loads[0].done < loads[-1].done == loads[-1].total
    again: list[Step] = []
    load(row("some/mt"), tell=again.append)
    assert {step.doing for step in again} == {"load"}


def test_a_download_that_breaks_off_once_is_gone_on_with(hub: Hub) -> None:
    hub.breaks = 1
    assert load(row("some/mt")).spec.name == "mt"
    assert len(hub.starts) == 2


def test_a_download_that_keeps_breaking_off_is_told_and_what_arrived_whole_is_kept(hub: Hub, tmp_path: Path) -> None:
    hub.breaks, hub.breaks_after = 1_000, 10_000
    assert "the files that arrived whole are kept" in _told("some/mt", tmp_path)
    hub.breaks = 0
    hub.asked.clear()
    assert load(row("some/mt")).spec.name == "mt"
    assert "model.safetensors" in hub.asked
    assert "config.json" not in hub.asked


def test_a_full_disk_is_told_before_anything_is_downloaded(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    told = _told("some/mt", tmp_path)
    assert "does not fit on the disk" in told
    assert "HF_HOME" in told
    assert hub.asked == []


def test_a_private_repository_opens_with_the_owners_token(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.private["some/mt"] = "hf_secret"
    assert "hf auth login" in _told("some/mt", tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert load(row("some/mt")).spec.name == "mt"


def test_second_time_nothing_is_downloaded(hub: Hub) -> None:
    folder = locate(row("some/mt"))
    hub.asked.clear()
    assert locate(row("some/mt")) == folder
    assert hub.asked == []


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_what_was_downloaded_is_found_without_the_hub(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    folder = locate(row("some/mt"))
    _disconnect(monkeypatch, how)
    assert locate(row("some/mt")) == folder


def _disconnect(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        _connect(monkeypatch, "http://127.0.0.1:9")


def _told(source: str, tmp_path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load(row(source))
    told = str(caught.value)
    assert told.endswith(".")
    assert "\n" not in told
    assert str(tmp_path) not in told
    assert "127.0.0.1" not in told
    return told


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_model_that_is_nowhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    _disconnect(monkeypatch, how)
    assert "mt is not on this machine, or not all of it, and the hub cannot be reached" in _told("some/mt", tmp_path)


@pytest.mark.usefixtures("hub")
def test_half_a_download_offline_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (locate(row("some/mt")) / "model.safetensors").unlink()
    _disconnect(monkeypatch, "offline")
    assert "not all of it" in _told("some/mt", tmp_path)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("some/none", "The hub has no some/none"),
        ("some/private", "The hub has no some/private"),
        ("some/gated", "accepted its terms"),
    ],
)
def test_refusal_is_told(tmp_path: Path, source: str, sentence: str) -> None:
    told = _told(source, tmp_path)
    assert sentence in told
    assert "hf auth login" in told
