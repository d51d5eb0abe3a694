"""Specs and adapters of hub repositories that are not in the catalogue."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from blip_space.catalogue import find_model, find_operator_model
from blip_space.errors import ModelError
from blip_space.loading.loader import load_model
from tests.checkpoints import stored
from tests.loading.fake_hub import Hub
from tests.loading.hub_fixtures import disconnect


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
    disconnect(monkeypatch, how)
    assert find_model("some/mt", folders=True) == spec
    assert load_model(find_model("some/mt", folders=True)).spec.parameters == spec.parameters


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_incomplete_repository_without_the_hub_is_reported_by_loading(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    find_model("some/mt", folders=True)
    assert "model.safetensors" not in [name for name in hub.downloads if name == "tokenizer.json"]
    disconnect(monkeypatch, how)
    with pytest.raises(ModelError, match="is incomplete, and the hub cannot be reached"):
        load_model(find_model("some/mt", folders=True))


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_missing_repository_without_the_hub_is_reported(monkeypatch: pytest.MonkeyPatch, hub: Hub, how: str) -> None:
    disconnect(monkeypatch, how)
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
            disconnect(monkeypatch, how)
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
    disconnect(monkeypatch, "offline")
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
