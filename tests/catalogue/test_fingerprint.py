"""The fingerprint depends on everything that decides a model's output, and on nothing else."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blip_space.catalogue import MODELS, fingerprint, read_folder
from blip_space.catalogue.fingerprint import fingerprint as fingerprint_of
from tests.checkpoints import blip2


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blip2.write(tmp_path_factory.mktemp("models") / "one", "opt")


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(checkpoint, tmp_path / "checkpoint")


def flip(path: Path, offset: int) -> None:
    """Change one byte, and neither the header nor the size."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(bytes(content))


def replace_in(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


def change_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def middle_of_a_tensor(path: Path) -> int:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    begin, end = header["language_model.model.decoder.embed_tokens.weight"]["data_offsets"]
    return int(8 + length + (begin + end) // 2)


RELEVANT: dict[str, Callable[[Path], Any]] = {
    "a weight": lambda folder: flip(folder / "model.safetensors", middle_of_a_tensor(folder / "model.safetensors")),
    "a token": lambda folder: replace_in(folder / "tokenizer.json", "</s>", "</S>"),
    "the configuration": lambda folder: change_config(folder, image_token_index=7),
    "stop tokens": lambda folder: (folder / "generation_config.json").write_text('{"eos_token_id": 9}'),
    "a chat template": lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
}
IRRELEVANT: dict[str, Callable[[Path], Any]] = {
    "a version": lambda folder: change_config(folder, transformers_version="9.9"),
    "a readme": lambda folder: (folder / "README.md").write_text("words"),
    "an adapter beside it": lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x"),
    "the time": lambda folder: (folder / "model.safetensors").touch(),
}


@pytest.mark.parametrize("full_read_bytes", [0, fingerprint.MAX_FULL_READ_BYTES], ids=["sampled", "complete"])
@pytest.mark.parametrize("change", RELEVANT.values(), ids=RELEVANT.keys())
def test_change_of_the_output_changes_the_fingerprint(
    folder: Path, change: Callable[[Path], Any], full_read_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "MAX_FULL_READ_BYTES", full_read_bytes)
    before = fingerprint_of(read_folder(folder))
    change(folder)
    assert fingerprint_of(read_folder(folder)) != before


@pytest.mark.parametrize("change", IRRELEVANT.values(), ids=IRRELEVANT.keys())
def test_other_changes_keep_the_fingerprint(folder: Path, change: Callable[[Path], Any]) -> None:
    before = fingerprint_of(read_folder(folder))
    change(folder)
    moved = folder.rename(folder.with_name("moved"))
    assert fingerprint_of(read_folder(moved)) == before


def test_adapter_changes_the_fingerprint_and_its_path_does_not(folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "out" / "checkpoint-9"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"one")
    bare = read_folder(folder)
    outer, inner = (fingerprint_of(replace(bare, adapter=str(path))) for path in (adapter.parent, adapter))
    assert outer == inner != fingerprint_of(bare)
    (adapter / "adapter_model.safetensors").write_bytes(b"two")
    assert fingerprint_of(replace(bare, adapter=str(adapter))) != inner


def test_hub_model_has_a_fingerprint_without_a_download() -> None:
    first, other = MODELS["blip2-opt-2.7b"], MODELS["mblip-mt0-xl"]
    assert fingerprint_of(first) == fingerprint_of(first) != fingerprint_of(other)
    assert fingerprint_of(replace(first, revision="abc")) != fingerprint_of(first)
    assert fingerprint_of(replace(first, adapter="someone/blip2-lora")) != fingerprint_of(first)
