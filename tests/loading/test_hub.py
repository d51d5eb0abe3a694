"""A catalogue's row: downloaded once, found again offline, and each refusal in a sentence."""

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


def row(source: str) -> ModelSpec:
    return ModelSpec(source.split("/")[1], source, "blip2", "mt5", "mblip", 40_000, ("en",))


@pytest.fixture
def hub(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository, which holds its weights twice, and an empty cache."""
    published = tmp_path / "published"
    shutil.copytree(folders["mt5"], published)
    (published / "pytorch_model.bin").write_bytes(b"the same once more")
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


def test_row_is_downloaded_and_answers(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    assert load_model(row("some/mt")).spec.name == "mt"
    assert "model.safetensors" in hub.asked
    assert not {"pytorch_model.bin", "README.md"} & set(hub.asked)
    assert capfd.readouterr() == ("", "")


def test_of_a_row_that_is_prepared_only_small_files_are_downloaded_and_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(load_preparation(row("some/mt")).encode("two cats")) > 0
    assert {"config.json", "tokenizer.json", "processor_config.json"} <= set(hub.asked)
    assert not {"model.safetensors", "pytorch_model.bin", "README.md"} & set(hub.asked)
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert len(load_preparation(row("some/mt")).encode("two cats")) > 0
    assert hub.asked == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("source", ["some/gated", "some/private", "some/none"])
def test_a_row_that_cannot_be_had_is_told_as_loading_tells_it(hub: Hub, source: str) -> None:  # noqa: ARG001
    with pytest.raises(ModelError) as expected:
        load_model(row(source))
    with pytest.raises(ModelError) as caught:
        load_preparation(row(source))
    assert str(caught.value) == str(expected.value)


def test_a_configuration_alone_in_the_cache_is_not_taken_for_the_model(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_model("some/mt", folders=True).language_model_type == "mt5"  # which downloads config.json
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="the hub cannot be reached"):
        load_preparation(row("some/mt"))


def test_a_pickle_is_not_even_downloaded(hub: Hub, tmp_path: Path) -> None:
    assert "a pickle may run code" in _told("some/old", tmp_path)
    assert "pytorch_model.bin" not in hub.asked


@pytest.mark.usefixtures("hub")
def test_the_download_is_told_byte_by_byte_and_then_the_load() -> None:
    steps: list[LoadEvent] = []
    load_model(row("some/mt"), on_progress=steps.append)
    downloads = [step for step in steps if step.phase == "download"]
    assert downloads[-1].done == downloads[-1].total > 100_000
    assert [step.done for step in downloads] == sorted(step.done for step in downloads)
    loads = [step for step in steps if step.phase == "load"]
    assert steps[-1] == loads[-1]
    assert loads[0].done < loads[-1].done == loads[-1].total
    again: list[LoadEvent] = []
    load_model(row("some/mt"), on_progress=again.append)
    assert {step.phase for step in again} == {"load"}


def test_a_download_that_breaks_off_once_is_gone_on_with(hub: Hub) -> None:
    hub.breaks = 1
    assert load_model(row("some/mt")).spec.name == "mt"
    assert len(hub.starts) == 2


def test_a_download_that_keeps_breaking_off_is_told_and_what_arrived_whole_is_kept(hub: Hub, tmp_path: Path) -> None:
    hub.breaks, hub.breaks_after = 1_000, 10_000
    assert "the files that arrived whole are kept" in _told("some/mt", tmp_path)
    hub.breaks = 0
    hub.asked.clear()
    assert load_model(row("some/mt")).spec.name == "mt"
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
    assert load_model(row("some/mt")).spec.name == "mt"


def test_second_time_nothing_is_downloaded(hub: Hub) -> None:
    folder = download_checkpoint(row("some/mt"))
    hub.asked.clear()
    assert download_checkpoint(row("some/mt")) == folder
    assert hub.asked == []


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_what_was_downloaded_is_found_without_the_hub(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    folder = download_checkpoint(row("some/mt"))
    _disconnect(monkeypatch, how)
    assert download_checkpoint(row("some/mt")) == folder


def _disconnect(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        _connect(monkeypatch, "http://127.0.0.1:9")


def _told(source: str, tmp_path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(row(source))
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
    (download_checkpoint(row("some/mt")) / "model.safetensors").unlink()
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


def test_another_repository_is_known_before_its_weights_are_there(
    hub: Hub, folders: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    spec, expected = find_model(" some/mt ", folders=True), find_model(str(folders["mt5"]), folders=True)
    assert (spec.name, spec.source, spec.is_folder) == ("some/mt", "some/mt", False)
    assert (spec.language_model_type, spec.prompt_style, len(spec.languages)) == ("mt5", "mblip", 96)
    assert (spec.parameters, spec.quantized_parameters) == (expected.parameters, expected.quantized_parameters)
    assert "tokenizer.json" not in hub.asked
    assert load_model(spec).spec.name == "some/mt"
    assert capfd.readouterr() == ("", "")


def test_a_repository_in_8_bits_is_known_as_such_before_its_weights_are_there(
    hub: Hub, folders: dict[str, Path], tmp_path: Path
) -> None:
    hub.folders["some/small"] = stored.quantize(folders["mt5"], tmp_path / "small", **stored.INT8)
    spec = find_model("some/small", folders=True)
    assert spec.precisions == ("int8",)
    assert load_model(spec).precision.name == "int8"


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_another_repository_is_found_again_without_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    spec = find_model("some/mt", folders=True)
    load_model(spec)
    hub.asked.clear()
    assert find_model("some/mt", folders=True) == spec
    assert hub.asked == []
    _disconnect(monkeypatch, how)
    assert find_model("some/mt", folders=True) == spec
    assert load_model(find_model("some/mt", folders=True)).spec.parameters == spec.parameters


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_a_half_cached_repository_is_told_by_its_load_without_the_hub(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    find_model("some/mt", folders=True)
    assert "model.safetensors" not in [name for name in hub.asked if name == "tokenizer.json"]
    _disconnect(monkeypatch, how)
    with pytest.raises(ModelError, match="not all of it, and the hub cannot be reached"):
        load_model(find_model("some/mt", folders=True))


@pytest.mark.parametrize("how", ["offline", "unreachable"])
def test_another_repository_that_is_nowhere_is_told(monkeypatch: pytest.MonkeyPatch, hub: Hub, how: str) -> None:
    _disconnect(monkeypatch, how)
    for search in (find_operator_model, lambda name: find_model(name, folders=True)):
        with pytest.raises(ModelError, match=r"some/mt is not on this machine.*cannot be reached.*no folder"):
            search("some/mt")
    assert hub.asked == []


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("some/none", "The hub has no some/none .*there is no folder that is called so"),
        ("some/gated", "some/gated is given only to those who accepted its terms"),
        ("some--x/y", "The hub has no some--x/y"),
    ],
)
def test_a_repository_that_is_refused_is_told(source: str, sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence) as caught:
        find_model(source, folders=True)
    assert "127.0.0.1" not in str(caught.value)


def test_a_repository_that_is_nearly_one_of_the_catalogues_is_met_with_a_guess(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for how in ("", "offline"):
        if how:
            _disconnect(monkeypatch, how)
        with pytest.raises(ModelError, match=r"Salesforce/blip2-opt2\.7b .*Did you mean 'blip2-opt-2\.7b'\?"):
            find_model("Salesforce/blip2-opt2.7b", folders=True)
    assert hub.asked == []


def test_a_visitor_names_no_repository(hub: Hub) -> None:
    with pytest.raises(ModelError, match="There is no model 'some/mt'"):
        find_model("some/mt")
    assert hub.asked == []


def test_an_adapter_comes_from_the_hub_and_is_no_model(
    hub: Hub, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = stored.write_adapter(folders["mt5"], tmp_path / "published-lora", target_modules=["q", "v"])
    (published / "optimizer.bin").write_bytes(b"x")
    hub.folders["some/lora"] = published
    spec = replace(find_model(str(folders["mt5"]), folders=True), adapter="some/lora")
    here = load_model(replace(spec, adapter=str(published)))
    assert sorted(set(hub.asked)) == []
    there = load_model(spec)
    assert sorted(set(hub.asked)) == ["adapter_config.json", "adapter_model.safetensors"]
    assert here.nbytes == there.nbytes
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
        ("some/gated", "accepted its terms"),
        ("some/mt", "The repository some/mt holds no adapter"),
    ],
)
def test_an_adapter_that_the_hub_does_not_give_is_told(
    hub: Hub, folders: dict[str, Path], source: str, sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence):
        load_model(replace(find_model(str(folders["mt5"]), folders=True), adapter=source))
    assert "model.safetensors" not in hub.asked


def test_a_size_that_only_the_index_tells_is_taken_from_it(hub: Hub, folders: dict[str, Path], tmp_path: Path) -> None:
    published = stored.copy_checkpoint(folders["opt"], tmp_path / "indexed")
    (published / "model.safetensors").write_bytes(b"")
    index = {
        "metadata": {"total_size": 4_000_000_000},
        "weight_map": {"query_tokens": "model-00001-of-00001.safetensors"},
    }
    (published / "model.safetensors.index.json").write_text(json.dumps(index))
    hub.folders["some/indexed"] = published
    assert find_model("some/indexed", folders=True).parameters == 1_000_000_000
