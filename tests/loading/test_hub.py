"""Models of the hub: downloaded once, then found offline, with a message for every refusal."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from blip_space.catalogue import find_model
from blip_space.errors import ModelError
from blip_space.loading.download import download_checkpoint
from blip_space.loading.loader import load_model
from blip_space.loading.preparation import load_preparation
from blip_space.loading.progress import LoadEvent
from tests.loading.fake_hub import Hub
from tests.loading.hub_fixtures import disconnect, hub_spec


def test_model_is_downloaded_and_loaded_silently(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    assert load_model(hub_spec("some/mt")).spec.name == "mt"
    assert "model.safetensors" in hub.downloads
    assert not {"pytorch_model.bin", "README.md"} & set(hub.downloads)
    assert capfd.readouterr() == ("", "")


def test_preparation_downloads_only_small_files_and_only_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(load_preparation(hub_spec("some/mt")).encode("two cats")) > 0
    assert {"config.json", "tokenizer.json", "processor_config.json"} <= set(hub.downloads)
    assert not {"model.safetensors", "pytorch_model.bin", "README.md"} & set(hub.downloads)
    hub.downloads.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert len(load_preparation(hub_spec("some/mt")).encode("two cats")) > 0
    assert hub.downloads == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("source", ["some/gated", "some/private", "some/none"])
def test_errors_of_preparation_are_those_of_loading(hub: Hub, source: str) -> None:  # noqa: ARG001
    with pytest.raises(ModelError) as expected:
        load_model(hub_spec(source))
    with pytest.raises(ModelError) as caught:
        load_preparation(hub_spec(source))
    assert str(caught.value) == str(expected.value)


def test_cached_configuration_alone_is_not_the_model(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_model("some/mt", folders=True).language_model_type == "mt5"  # which downloads config.json
    hub.downloads.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        load_preparation(hub_spec("some/mt"))


def test_pickle_is_not_downloaded(hub: Hub, tmp_path: Path) -> None:
    assert "a pickle may run code" in _load_error("some/old", tmp_path)
    assert "pytorch_model.bin" not in hub.downloads


@pytest.mark.usefixtures("hub")
def test_progress_of_download_and_load_is_reported() -> None:
    events: list[LoadEvent] = []
    load_model(hub_spec("some/mt"), on_progress=events.append)
    downloads = [event for event in events if event.phase == "download"]
    assert downloads[-1].done == downloads[-1].total > 100_000
    assert [event.done for event in downloads] == sorted(event.done for event in downloads)
    loads = [event for event in events if event.phase == "load"]
    assert events[-1] == loads[-1]
    assert loads[0].done < loads[-1].done == loads[-1].total
    again: list[LoadEvent] = []
    load_model(hub_spec("some/mt"), on_progress=again.append)
    assert {event.phase for event in again} == {"load"}


def test_interrupted_download_is_resumed(hub: Hub) -> None:
    hub.breaks = 1
    assert load_model(hub_spec("some/mt")).spec.name == "mt"
    assert len(hub.starts) == 2


def test_complete_files_of_an_interrupted_download_are_kept(hub: Hub, tmp_path: Path) -> None:
    hub.breaks, hub.break_after_bytes = 1_000, 10_000
    assert "complete files are kept" in _load_error("some/mt", tmp_path)
    hub.breaks = 0
    hub.downloads.clear()
    assert load_model(hub_spec("some/mt")).spec.name == "mt"
    assert "model.safetensors" in hub.downloads
    assert "config.json" not in hub.downloads


def test_full_disk_is_reported_before_the_download(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    message = _load_error("some/mt", tmp_path)
    assert "Not enough disk space for mt" in message
    assert "HF_HOME" in message
    assert hub.downloads == []


def test_private_repository_needs_the_token(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.private["some/mt"] = "hf_secret"
    assert "hf auth login" in _load_error("some/mt", tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert load_model(hub_spec("some/mt")).spec.name == "mt"


def test_model_is_downloaded_only_once(hub: Hub) -> None:
    folder = download_checkpoint(hub_spec("some/mt"))
    hub.downloads.clear()
    assert download_checkpoint(hub_spec("some/mt")) == folder
    assert hub.downloads == []


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_downloaded_model_is_found_without_the_hub(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    folder = download_checkpoint(hub_spec("some/mt"))
    disconnect(monkeypatch, how)
    assert download_checkpoint(hub_spec("some/mt")) == folder


def _load_error(source: str, tmp_path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(hub_spec(source))
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert str(tmp_path) not in message
    assert "127.0.0.1" not in message
    return message


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_missing_model_without_the_hub_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    disconnect(monkeypatch, how)
    assert "mt is not on this machine, or is incomplete, and the hub cannot be reached" in _load_error(
        "some/mt", tmp_path
    )


@pytest.mark.usefixtures("hub")
def test_incomplete_download_without_the_hub_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (download_checkpoint(hub_spec("some/mt")) / "model.safetensors").unlink()
    disconnect(monkeypatch, "offline")
    assert "is incomplete" in _load_error("some/mt", tmp_path)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("some/none", "The hub has no some/none"),
        ("some/private", "The hub has no some/private"),
        ("some/gated", "Accept its terms"),
    ],
)
def test_refusal_of_the_hub_is_reported(tmp_path: Path, source: str, sentence: str) -> None:
    message = _load_error(source, tmp_path)
    assert sentence in message
    assert "hf auth login" in message
