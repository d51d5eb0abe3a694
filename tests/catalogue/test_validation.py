"""Folders without a model of a supported family are refused with an explanation."""

from pathlib import Path
from typing import Any

import pytest

from blip_space import catalogue
from blip_space.catalogue.validation import base_model_name
from blip_space.errors import ModelError
from tests.catalogue.folders import OPT, check_refused, write_folder, write_weights


def test_error_for_another_model_names_the_folder_without_its_path(tmp_path: Path) -> None:
    for config, message in (
        ({"model_type": "llama"}, "not a BLIP-2"),
        (
            {"model_type": "blip-2", "text_config": {"model_type": "llama"}},
            "a BLIP-2 model with the language model 'llama'",
        ),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            catalogue.read_folder(write_folder(tmp_path, **config))
        assert str(tmp_path.parent) not in str(caught.value)
    (tmp_path / "config.json").write_text("{", "utf-8")
    with pytest.raises(ModelError, match="cannot be read"):
        catalogue.read_folder(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        catalogue.read_folder(tmp_path)


NOT_BLIP2: dict[str, tuple[dict[str, Any], str]] = {
    "matching": (
        {"model_type": "blip-2", "text_config": None, "architectures": ["Blip2ForImageTextRetrieval"]},
        "scores how well images and texts match, and has no language model, so it cannot chat",
    ),
    "matching with a text_config": (
        OPT | {"architectures": ["Blip2ForImageTextRetrieval"]}, "has no language model, so it cannot chat"
    ),
    "vision alone": (OPT | {"architectures": ["Blip2VisionModelWithProjection"]}, "embeds images, and has no language"),
    "null": ({"model_type": "blip-2", "text_config": None}, "has no language model, so it cannot chat"),
    "missing": ({"model_type": "blip-2"}, "has no language model, so it cannot chat"),
    "a string": ({"model_type": "blip-2", "text_config": "opt"}, "text_config .* is a string instead"),
    "a list": ({"model_type": "blip-2", "text_config": [1]}, "text_config .* is a list instead"),
    "a number": ({"model_type": "blip-2", "text_config": 7}, "text_config .* is a number instead"),
    "an odd language model": ({"model_type": "blip-2", "text_config": {"model_type": ["opt"]}}, "Supported: opt"),
    "instructblip": ({"model_type": "instructblip"}, "an InstructBLIP .*InstructBlipForConditionalGeneration supp"),
    "blip": ({"model_type": "blip"}, "a BLIP model of the first generation .*BlipForConditionalGeneration supports it"),
    "qwen": ({"model_type": "qwen2_5_vl", "vision_config": {}}, "'qwen2_5_vl', which is not a BLIP-2"),
    "a language model": (
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, "without a vision encoder .* not a BLIP-2"
    ),
    "nothing": ({}, "of type 'None', which is not a BLIP-2"),
    "an odd type": ({"model_type": {"a": 1}}, "which is not a BLIP-2"),
}  # fmt: skip


@pytest.mark.parametrize(("config", "message"), NOT_BLIP2.values(), ids=NOT_BLIP2.keys())
def test_folders_without_a_blip2_that_chats_are_explained(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    """config-without-language-model: a traceback, and `serve` ended."""
    check_refused(tmp_path, config, message)


def test_architecture_does_not_matter_where_weights_are_complete(tmp_path: Path) -> None:
    write_weights(
        write_folder(tmp_path, **OPT, architectures=["Blip2Model"]), "query_tokens", "language_model.model.x.weight"
    )
    assert catalogue.find_model(str(tmp_path), folders=True).language_model_type == "opt"


def test_language_model_that_the_configuration_lacks_is_reported(tmp_path: Path) -> None:
    write_weights(
        write_folder(tmp_path, model_type="blip-2", text_config=None), "query_tokens", "language_model.x.weight"
    )
    with pytest.raises(ModelError, match=r"does not describe its language model.*weights hold one\. Copy"):
        catalogue.read_folder(tmp_path)


@pytest.mark.parametrize("file", ["blip2_pretrained_opt2.7b.pth", "model.pt", "pytorch_model.bin", "last.ckpt"])
def test_error_for_files_of_lavis_names_converted_checkpoints(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(b"x")
    for name in (tmp_path, tmp_path / file):
        with pytest.raises(ModelError, match=r"A pickle may run code.*choose one of blip2-opt-2\.7b,") as caught:
            catalogue.find_model(str(name), folders=True)
        assert str(tmp_path.parent) not in str(caught.value)
    write_folder(write_weights(tmp_path, "visual_encoder.x", "Qformer.x", "opt_model.x"), **OPT)
    with pytest.raises(ModelError, match="weights with the names of LAVIS"):
        catalogue.find_model(str(tmp_path), folders=True)


def test_error_for_a_file_or_an_outer_folder_says_what_to_name(tmp_path: Path) -> None:
    inner = tmp_path / "checkpoint-10"
    inner.mkdir()
    write_weights(write_folder(inner, **OPT), "query_tokens")
    for name in ("model.safetensors", "config.json"):
        with pytest.raises(ModelError, match="is a file, and a model is a folder"):
            catalogue.find_model(str(inner / name), folders=True)
    with pytest.raises(ModelError, match=r"its folder checkpoint-10 has one\. Name that folder"):
        catalogue.find_model(str(tmp_path), folders=True)


@pytest.mark.parametrize(
    ("named", "base"),
    [
        ("a/b", "a/b"),
        ("/b", "b"),
        ("./b", "b"),
        ("~/b", "b"),
        ("/x/a/b", "b"),
        (r"C:\a\b", "b"),
        ("a\n/b", ""),
        (5, ""),
    ],
)
def test_base_model_in_a_folder_has_the_folders_name(named: Any, base: str) -> None:
    assert base_model_name({"base_model_name_or_path": named}) == base


def test_language_model_is_recognized_by_its_type(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"without a vision encoder.*cannot process images"):
        catalogue.read_folder(write_folder(tmp_path, model_type="opt"))
