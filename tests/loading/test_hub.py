"""Models of the hub: downloaded once, then found offline, with a message for every refusal."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from blip_space.catalogue import ModelSpec, find_model, find_operator_model
from blip_space.errors import ModelError
from blip_space.loading.download import download_checkpoint
from blip_space.loading.loader import load_model
from blip_space.loading.preparation import load_preparation
from blip_space.loading.progress import LoadEvent
from tests.checkpoints import blip2, stored
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
        _connect(monkeypatch, hub.url)
        yield hub


def _connect(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


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
    assert "does not fit on the disk" in message
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
    _disconnect(monkeypatch, how)
    assert download_checkpoint(hub_spec("some/mt")) == folder


def _disconnect(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        _connect(monkeypatch, "http://127.0.0.1:9")


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
    _disconnect(monkeypatch, how)
    assert "mt is not on this machine, or is incomplete, and the hub cannot be reached" in _load_error(
        "some/mt", tmp_path
    )


@pytest.mark.usefixtures("hub")
def test_incomplete_download_without_the_hub_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (download_checkpoint(hub_spec("some/mt")) / "model.safetensors").unlink()
    _disconnect(monkeypatch, "offline")
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


def test_spec_of_a_repository_needs_no_weights(
    hub: Hub, folders: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    spec, expected = find_model(" some/mt ", folders=True), find_model(str(folders["mt5"]), folders=True)
    assert (spec.name, spec.source, spec.is_folder) == ("some/mt", "some/mt", False)
    assert (spec.language_model_type, spec.prompt_style, len(spec.languages)) == ("mt5", "mblip", 96)
    assert (spec.parameters, spec.quantized_parameters) == (expected.parameters, expected.quantized_parameters)
    assert "tokenizer.json" not in hub.downloads
    assert load_model(spec).spec.name == "some/mt"
    assert capfd.readouterr() == ("", "")


def test_stored_precision_of_a_repository_needs_no_weights(hub: Hub, folders: dict[str, Path], tmp_path: Path) -> None:
    hub.folders["some/small"] = stored.quantize(folders["mt5"], tmp_path / "small", **stored.INT8)
    spec = find_model("some/small", folders=True)
    assert spec.precisions == ("int8",)
    assert load_model(spec).precision.name == "int8"


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_downloaded_repository_is_found_without_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    spec = find_model("some/mt", folders=True)
    load_model(spec)
    hub.downloads.clear()
    assert find_model("some/mt", folders=True) == spec
    assert hub.downloads == []
    _disconnect(monkeypatch, how)
    assert find_model("some/mt", folders=True) == spec
    assert load_model(find_model("some/mt", folders=True)).spec.parameters == spec.parameters


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_incomplete_repository_without_the_hub_is_reported_by_loading(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    find_model("some/mt", folders=True)
    assert "model.safetensors" not in [name for name in hub.downloads if name == "tokenizer.json"]
    _disconnect(monkeypatch, how)
    with pytest.raises(ModelError, match="is incomplete, and the hub cannot be reached"):
        load_model(find_model("some/mt", folders=True))


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_missing_repository_without_the_hub_is_reported(monkeypatch: pytest.MonkeyPatch, hub: Hub, how: str) -> None:
    _disconnect(monkeypatch, how)
    for search in (find_operator_model, lambda name: find_model(name, folders=True)):
        with pytest.raises(ModelError, match=r"some/mt is not on this machine.*cannot be reached.*no folder"):
            search("some/mt")
    assert hub.downloads == []


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("some/none", "The hub has no some/none .*there is no folder of that name"),
        ("some/gated", "some/gated is a gated repository"),
        ("some--x/y", "The hub has no some--x/y"),
    ],
)
def test_refused_repository_is_reported(source: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence) as caught:
        find_model(source, folders=True)
    assert "127.0.0.1" not in str(caught.value)


def test_error_for_a_misspelled_repository_suggests_a_model(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for how in ("", "offline"):
        if how:
            _disconnect(monkeypatch, how)
        with pytest.raises(ModelError, match=r"Salesforce/blip2-opt2\.7b .*Did you mean 'blip2-opt-2\.7b'\?"):
            find_model("Salesforce/blip2-opt2.7b", folders=True)
    assert hub.downloads == []


def test_callers_of_the_page_cannot_name_a_repository(hub: Hub) -> None:
    with pytest.raises(ModelError, match="There is no model 'some/mt'"):
        find_model("some/mt")
    assert hub.downloads == []


def test_adapter_is_downloaded_from_the_hub_and_is_not_a_model(
    hub: Hub, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = stored.write_adapter(folders["mt5"], tmp_path / "published-lora", target_modules=["q", "v"])
    (published / "optimizer.bin").write_bytes(b"x")
    hub.folders["some/lora"] = published
    spec = replace(find_model(str(folders["mt5"]), folders=True), adapter="some/lora")
    local = load_model(replace(spec, adapter=str(published)))
    assert sorted(set(hub.downloads)) == []
    downloaded = load_model(spec)
    assert sorted(set(hub.downloads)) == ["adapter_config.json", "adapter_model.safetensors"]
    assert local.nbytes == downloaded.nbytes
    with pytest.raises(ModelError, match=r"some/lora is an adapter, not a model.*--adapter"):
        find_model("some/lora", folders=True)
    _disconnect(monkeypatch, "offline")
    assert load_model(spec).spec.adapter == "some/lora"
    with pytest.raises(ModelError, match=r"some/other is not on this machine.*name the folder of an adapter"):
        load_model(replace(spec, adapter="some/other"))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("some/none", "The hub has no some/none .*name the folder of an adapter"),
        ("some/gated", "Accept its terms"),
        ("some/mt", "The repository some/mt holds no adapter"),
    ],
)
def test_refused_adapter_is_reported(hub: Hub, folders: dict[str, Path], source: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        load_model(replace(find_model(str(folders["mt5"]), folders=True), adapter=source))
    assert "model.safetensors" not in hub.downloads


def test_parameters_are_estimated_from_the_index(hub: Hub, folders: dict[str, Path], tmp_path: Path) -> None:
    published = stored.copy_checkpoint(folders["opt"], tmp_path / "indexed")
    (published / "model.safetensors").write_bytes(b"")
    index = {
        "metadata": {"total_size": 4_000_000_000},
        "weight_map": {"query_tokens": "model-00001-of-00001.safetensors"},
    }
    (published / "model.safetensors.index.json").write_text(json.dumps(index))
    hub.folders["some/indexed"] = published
    assert find_model("some/indexed", folders=True).parameters == 1_000_000_000
