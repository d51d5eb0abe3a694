"""The specs of LLaVA folders, and which folders are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from blip_space import catalogue
from blip_space.catalogue.folder import inspect_checkpoint
from blip_space.catalogue.headers import read_headers
from blip_space.errors import ModelError
from tests.catalogue.folders import OPT, check_refused, write_folder, write_weights

LLAMA, CLIP = {"model_type": "llama"}, {"model_type": "clip_vision_model"}
LLAVA: dict[str, Any] = {
    "model_type": "llava",
    "architectures": ["LlavaForConditionalGeneration"],
    "text_config": LLAMA,
    "vision_config": CLIP,
}
LLAVA_OLD = (
    "language_model.lm_head.weight",
    "language_model.model.embed_tokens.weight",
    "language_model.model.norm.weight",
    "language_model.model.layers.0.mlp.up_proj.weight",
    "language_model.model.layers.0.input_layernorm.weight",
    "multi_modal_projector.linear_1.weight",
    "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight",
)
LLAVA_NEW = (
    "lm_head.weight",
    "model.language_model.embed_tokens.weight",
    "model.language_model.norm.weight",
    "model.language_model.layers.0.mlp.up_proj.weight",
    "model.language_model.layers.0.input_layernorm.weight",
    "model.multi_modal_projector.linear_1.weight",
    "model.vision_tower.encoder.layers.0.mlp.fc1.weight",
)


@pytest.mark.parametrize("wrapper", ["", "module.", "base.", "_orig_mod.module.net."])
@pytest.mark.parametrize("names", [LLAVA_OLD, LLAVA_NEW], ids=["of the hub", "in memory"])
def test_llava_is_recognized_whichever_version_saved_its_weights(
    tmp_path: Path, names: tuple[str, ...], wrapper: str
) -> None:
    spec = catalogue.read_folder(write_weights(write_folder(tmp_path, **LLAVA), *(wrapper + name for name in names)))
    assert (spec.family, spec.language_model_type, spec.prompt_style, spec.languages) == (
        "llava",
        "llama",
        "llava",
        ("en",),
    )
    assert (spec.parameters, spec.quantized_parameters, spec.context_tokens) == (7, 1, 4096)
    assert spec.decoder_only
    assert spec.precisions == catalogue.PRECISIONS
    stored = inspect_checkpoint(tmp_path, read_headers(tmp_path), name="x")
    assert set(stored.tensors) == set(LLAVA_NEW)


@pytest.mark.parametrize(
    "missing", ["architectures", "model_type"], ids=["by its model type alone", "by its architecture alone"]
)
def test_model_type_or_architecture_identifies_the_family(tmp_path: Path, missing: str) -> None:
    spec = catalogue.read_folder(
        write_folder(tmp_path, **{key: value for key, value in LLAVA.items() if key != missing})
    )
    assert spec.family == "llava"


def test_context_window_is_that_of_the_language_model(tmp_path: Path) -> None:
    for max_positions, window in ((2048, 2048), (131072, 4096), ("many", 4096), (None, 4096)):
        write_folder(tmp_path, **LLAVA | {"text_config": LLAMA | {"max_position_embeddings": max_positions}})
        assert catalogue.read_folder(tmp_path).context_tokens == window
    (tmp_path / "blip_space.json").write_text('{"context_tokens": 8192}', "utf-8")
    assert catalogue.read_folder(tmp_path).context_tokens == 8192


def test_another_vision_encoder_needs_a_prompt_style(tmp_path: Path) -> None:
    write_folder(tmp_path, **LLAVA | {"vision_config": {"model_type": "siglip_vision_model"}})
    with pytest.raises(ModelError, match=r"as in JoyCaption.*choose llava-1\.5-7b or.*blip_space\.json"):
        catalogue.read_folder(tmp_path)
    (tmp_path / "blip_space.json").write_text('{"style": "llava"}', "utf-8")
    assert catalogue.read_folder(tmp_path).prompt_style == "llava"
    assert inspect_checkpoint(tmp_path, {}, name="x").parameter_counts == {}


def test_prompt_style_of_another_family_is_refused(tmp_path: Path) -> None:
    for config, style in ((LLAVA, "blip2"), (OPT, "llava")):
        write_folder(tmp_path, **config)
        (tmp_path / "blip_space.json").write_text(json.dumps({"style": style}), "utf-8")
        with pytest.raises(ModelError, match=r"style in the blip_space\.json .*must be one of"):
            catalogue.read_folder(tmp_path)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "llava_next": (
        {"model_type": "llava_next", "vision_config": {}}, "a LLaVA-NeXT .*not a BLIP-2 model or a LLaVA model; .*Llava"
    ),
    "two families": (
        LLAVA | {"model_type": "blip-2"}, "LlavaForConditionalGeneration and the model_type 'blip-2', which do not"
    ),
    "a window": (LLAVA | {"text_config": LLAMA | {"sliding_window": 4096}}, "sliding_window.*such as llava-1"),
    "positions by the longest text": (
        LLAVA | {"text_config": LLAMA | {"rope_parameters": {"rope_type": "longrope"}}}, "RoPE of the type 'longrope'"
    ),
    "the same in transformers 4": (
        LLAVA | {"text_config": LLAMA | {"rope_scaling": {"type": "longrope"}}}, "RoPE of the type 'longrope'"
    ),
    "another language model": (
        LLAVA | {"text_config": {"model_type": "mistral"}}, "with the language model 'mistral', .* Supported: llama"
    ),
    "joycaption": (LLAVA | {"vision_config": {"model_type": "siglip_vision_model"}}, "as in JoyCaption"),
    "llava's own": (
        {"model_type": "llava", "architectures": ["LlavaLlamaForCausalLM"], "hidden_size": 4096},
        "the format of LLaVA's original code, which is not supported; choose the converted llava-1.5-7b or",
    ),
    "llava's own, renamed": (
        {"model_type": "llava_llama", "architectures": ["LlavaLlamaForCausalLM"]}, "its original code .* llava-1.5-7b"
    ),
    "a llava without its output layer": (
        LLAVA | {"architectures": ["LlavaModel"]}, "a LLaVA model whose output layer was not saved, so it cannot chat"
    ),
    "a llava without a language model": (
        {"model_type": "llava", "vision_config": CLIP}, "has no language model, so it cannot chat"
    ),
    "a llava with odd languages": (LLAVA | {"text_config": [1]}, "text_config .* is a list instead"),
}  # fmt: skip


@pytest.mark.parametrize(("config", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_folders_without_a_llava_that_chats_are_explained(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    check_refused(tmp_path, config, message)


def test_dynamic_rope_is_refused_where_the_window_exceeds_the_trained_length(tmp_path: Path) -> None:
    """Answers changed when a longer conversation was in the same batch."""
    scaled = LLAMA | {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 2048}
    (tmp_path / "config.json").write_text(json.dumps(LLAVA | {"text_config": scaled}), "utf-8")
    assert catalogue.read_folder(tmp_path).context_tokens == 2048
    (tmp_path / "blip_space.json").write_text('{"context_tokens": 4096}', "utf-8")
    with pytest.raises(ModelError, match=r"RoPE of the type 'dynamic'.*depend on other requests"):
        catalogue.read_folder(tmp_path)


@pytest.mark.parametrize(("config", "language_model_type"), [(dict(LLAVA), "llama"), ({"model_type": "blip-2"}, "opt")])
def test_missing_entries_have_the_defaults_of_transformers(
    tmp_path: Path, config: dict[str, Any], language_model_type: str
) -> None:
    visions: tuple[Any, ...] = ({}, None)
    for vision in visions:
        write_folder(tmp_path, **config | {"text_config": {}, "vision_config": vision})
        assert catalogue.read_folder(tmp_path).language_model_type == language_model_type


@pytest.mark.parametrize("value", [5, [5], "LlavaForConditionalGeneration", {"a": 1}])
def test_invalid_architectures_are_ignored(tmp_path: Path, value: Any) -> None:
    write_folder(tmp_path, **LLAVA | {"architectures": value})
    assert catalogue.read_folder(tmp_path).family == "llava"
    with pytest.raises(ModelError, match="a model of type 'x', which is not a BLIP-2"):
        catalogue.read_folder(write_folder(tmp_path, model_type="x", architectures=value))


@pytest.mark.parametrize(
    ("config", "names", "message"),
    [
        ({}, ("model.mm_projector.0.weight", *LLAVA_NEW), "is in the format of LLaVA's original code"),
        ({"architectures": ["LlavaModel"]}, LLAVA_NEW[1:], "is a LLaVA model whose output layer was not saved"),
        ({"text_config": None}, LLAVA_NEW, "does not describe its language model"),
    ],
)
def test_unsupported_llavas_are_explained(
    tmp_path: Path, config: dict[str, Any], names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        catalogue.read_folder(write_weights(write_folder(tmp_path, **LLAVA | config), *names))


@pytest.mark.parametrize(
    ("name", "width", "layers", "inner"), [("llava-1.5-7b", 4096, 32, 11_008), ("llava-1.5-13b", 5120, 40, 13_824)]
)
def test_parameters_follow_from_the_published_configuration(name: str, width: int, layers: int, inner: int) -> None:
    spec, vision, vocabulary = catalogue.find_model(name), 303_507_456, 32_064
    projector = 1024 * width + width + width**2 + width
    assert spec.quantized_parameters == layers * (4 * width**2 + 3 * width * inner)
    assert (
        spec.parameters
        == spec.quantized_parameters + (2 * layers + 1) * width + 2 * vocabulary * width + vision + projector
    )
