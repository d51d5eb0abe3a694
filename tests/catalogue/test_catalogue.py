"""The catalogue's models, and the specs of folders."""

import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blip_space import catalogue
from blip_space.catalogue import ModelSpec, families
from blip_space.errors import ModelError
from blip_space.prompts import STYLES
from tests.catalogue.folders import OPT, write_folder, write_weights


def test_every_model_has_a_prompt_style_and_an_estimate_of_memory() -> None:
    for name in catalogue.NAMES:
        spec = catalogue.find_model(name)
        assert spec.name == name
        assert spec.prompt_style in STYLES
        memory = replace(spec, photo_encoder=False).memory_gb  # which computes in fp32 always
        assert memory["bf16"] * 2 == pytest.approx(memory["fp32"], rel=0.01)


def test_memory_follows_from_the_number_of_parameters() -> None:
    spec = ModelSpec("x", "x", "blip2", "opt", "blip2", 3_000_000_000, ("en",), quantized_parameters=2_000_000_000)
    assert spec.memory_gb == {"fp32": 12.0, "bf16": 6.0, "fp16": 6.0, "int8": 4.0, "int4": 3.12}  # 1.125 and 2
    assert replace(spec, stored_precision="int4", stored_bytes=5_000_000_000).memory_gb == {"int4": 5.0}
    assert "fp16" not in replace(spec, language_model_type="t5").memory_gb
    assert [replace(spec, language_model_type=kind).decoder_only for kind in ("bloom", "mt5")] == [True, False]


def test_blip2_supports_english_and_mblip_96_languages() -> None:
    assert catalogue.find_model("blip2-flan-t5-xl").languages == ("en",)
    assert len(catalogue.find_model("mblip-mt0-xl").languages) == 96
    assert catalogue.models_supporting("de") == ["mblip-mt0-xl", "mblip-bloomz-7b"]


@pytest.mark.parametrize("name", ["", "gpt", "../tiny", "/etc"])
def test_error_for_an_unknown_name_lists_the_models(name: str) -> None:
    with pytest.raises(ModelError, match=r"The models are tiny, blip2-opt-2\.7b"):
        catalogue.find_model(name)


def test_paths_are_accepted_only_where_allowed(tmp_path: Path) -> None:
    write_folder(tmp_path, model_type="blip-2", text_config={"model_type": "bloom"})
    assert catalogue.find_model(str(tmp_path), folders=True).name == tmp_path.name
    with pytest.raises(ModelError, match="no model"):
        catalogue.find_model(str(tmp_path))


@pytest.mark.parametrize(
    ("text_type", "style", "languages"),
    [("opt", "blip2", 1), ("t5", "blip2", 1), ("mt5", "mblip", 96), ("bloom", "mblip", 96)],
)
def test_language_model_decides_style_and_languages(tmp_path: Path, text_type: str, style: str, languages: int) -> None:
    spec = catalogue.read_folder(write_folder(tmp_path, model_type="blip-2", text_config={"model_type": text_type}))
    assert (spec.language_model_type, spec.prompt_style, len(spec.languages)) == (text_type, style, languages)


def test_blip_space_json_overrides_the_defaults(tmp_path: Path) -> None:
    write_folder(tmp_path, model_type="blip-2", text_config={"model_type": "mt5"})
    own = {
        "name": "mine",
        "style": "blip2",
        "languages": ["en", "de"],
        "knows": "Cats.",
        "context_tokens": 128,
        "unknown": ["Eh?"],
    }
    (tmp_path / "blip_space.json").write_text(json.dumps(own), "utf-8")
    spec = catalogue.read_folder(tmp_path)
    assert (spec.name, spec.prompt_style, spec.languages, spec.description) == ("mine", "blip2", ("en", "de"), "Cats.")
    assert spec.unknown_image_replies == {"Eh?"}
    assert spec.context_tokens == 128


def test_operators_folder_without_a_checkpoint_has_a_load_error(tmp_path: Path) -> None:
    spec = catalogue.find_operator_model(str(tmp_path))
    assert spec.name == tmp_path.name
    assert "no config.json" in spec.load_error
    assert catalogue.find_operator_model("mblip-mt0-xl").load_error == ""
    with pytest.raises(ModelError, match="no folder"):
        catalogue.find_operator_model(str(tmp_path / "nowhere"))


def test_the_window_of_an_opt_is_at_most_its_positions(tmp_path: Path) -> None:
    """An answer beyond them failed with an internal error. Other language models count no positions."""
    for language_model, positions, window in (("opt", 128, 128), ("opt", 2048, 512), ("t5", 128, 512)):
        text_config = {"model_type": language_model, "max_position_embeddings": positions}
        write_folder(tmp_path, model_type="blip-2", text_config=text_config)
        assert catalogue.read_folder(tmp_path).context_tokens == window


@pytest.mark.parametrize("text", ["", "[]", "null", '"x"', "7", "{", "[" * 100_000, "\x00"])
@pytest.mark.parametrize("file", ["config.json", "blip_space.json"])
def test_invalid_json_is_a_load_error(tmp_path: Path, file: str, text: str) -> None:
    write_folder(tmp_path, **OPT)
    (tmp_path / file).write_text(text, "utf-8")
    assert file in catalogue.find_operator_model(str(tmp_path)).load_error


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 7), ("name", ""), ("style", "chatty"), ("style", ["blip2"]), ("languages", "en"),
        ("languages", ["xx"]),
        ("languages", []), ("context_tokens", "512"), ("context_tokens", 0), ("context_tokens", True), ("knows", None),
        ("unknown", "eh"), ("unknown", [1]),
    ],
)  # fmt: skip
def test_error_names_an_invalid_field_of_blip_space_json(tmp_path: Path, field: str, value: Any) -> None:
    write_folder(tmp_path, **OPT)
    (tmp_path / "blip_space.json").write_text(json.dumps({field: value}), "utf-8")
    with pytest.raises(ModelError, match=rf"{field} in the blip_space.json .*must be .*Correct it, or leave it out\."):
        catalogue.read_folder(tmp_path)


READY = {"what": "Was?", "how_many": "Wie viele?", "left": "Was ist links?", "knows": "Hunde"}


def test_ready_questions_are_read_by_language(tmp_path: Path) -> None:
    write_folder(tmp_path, **OPT)
    assert catalogue.read_folder(tmp_path).ready_questions == {}
    (tmp_path / "questions.json").write_text(json.dumps({"de": READY}), "utf-8")
    assert catalogue.read_folder(tmp_path).ready_questions["de"].questions == ("Was?", "Wie viele?", "Was ist links?")


@pytest.mark.parametrize("content", [{"xx": READY}, {"de": {}}, {"de": [1]}, {"de": READY | {"left": " "}}])
def test_error_names_an_invalid_entry_of_questions_json(tmp_path: Path, content: Any) -> None:
    write_folder(tmp_path, **OPT)
    (tmp_path / "questions.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(ModelError, match=rf"questions.json .*{next(iter(content))}.*Correct it, or delete the file\."):
        catalogue.read_folder(tmp_path)


@pytest.mark.parametrize("header", [b"[]", b"{", b"null", b'{"x": 1}', b'{"x": {"dtype": 1}}', b"\xff", b"[" * 100_000])
def test_invalid_header_counts_no_parameters(tmp_path: Path, header: bytes) -> None:
    write_folder(tmp_path, **OPT)
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert catalogue.read_folder(tmp_path).parameters == 0


def test_only_the_models_own_weights_are_counted(tmp_path: Path) -> None:
    write_weights(write_folder(tmp_path, **OPT), "query_tokens", "language_model.model.layers.0.fc1.weight")
    write_weights(tmp_path, "a.lora_A.weight", file="adapter_model.safetensors")
    write_weights(tmp_path, "query_tokens", "a", "b", file="model-00001-of-00001.safetensors")
    spec = catalogue.read_folder(tmp_path)
    assert (spec.parameters, spec.quantized_parameters) == (2, 1)


@pytest.mark.parametrize(
    "name", ["Salesforce/blip2-opt-2.7b", "BLIP2-OPT-2.7B", " blip2-opt-2.7b\n", "salesforce/BLIP2-opt-2.7b"]
)
def test_model_is_found_by_repository_and_in_any_case(name: str) -> None:
    for folders in (False, True):
        assert catalogue.find_model(name, folders=folders).name == "blip2-opt-2.7b"
    assert catalogue.find_model("Tiny").name == "tiny"


def test_error_for_a_misspelled_name_suggests_a_model() -> None:
    with pytest.raises(ModelError, match=r"Did you mean 'blip2-opt-2\.7b'\?"):
        catalogue.find_model("blip2-opt-2.7")
    with pytest.raises(ModelError, match=r"Did you mean 'mblip-mt0-xl'\?"):
        catalogue.find_model("Gregor/mblip-mt0-x")
    with pytest.raises(ModelError) as caught:
        catalogue.find_model("some/model")
    assert "owner/name" not in str(caught.value)
    with pytest.raises(ModelError, match=f"A folder with {families.list_supported()}, or a hub repository of one"):
        catalogue.find_model("gpt", folders=True)


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_blank_name_is_not_a_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was the current folder."""
    monkeypatch.chdir(write_folder(tmp_path, **OPT))
    for search in (catalogue.find_operator_model, catalogue.find_model):
        with pytest.raises(ModelError, match="No model is named"):
            search(name)


@pytest.mark.parametrize("name", ["x" * 5000, "\x00", "~nobody-of-that-name/x", "a\nb", "/proc/self/mem", "é" * 300])
def test_invalid_file_names_are_reported(name: str) -> None:
    with pytest.raises(ModelError, match=r"The models are|is a file"):
        catalogue.find_operator_model(name)


def test_folder_of_the_hubs_cache_is_its_snapshot(tmp_path: Path) -> None:
    cached = tmp_path / "models--some--blip2--tuned"
    for commit, kind in (("aaa", "t5"), ("bbb", "bloom")):
        (cached / "snapshots" / commit).mkdir(parents=True)
        write_folder(cached / "snapshots" / commit, model_type="blip-2", text_config={"model_type": kind})
        write_weights(cached / "snapshots" / commit, "query_tokens")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("aaa", "utf-8")
    spec = catalogue.find_model(str(cached), folders=True)
    assert (spec.name, spec.language_model_type, spec.parameters) == ("some/blip2--tuned", "t5", 1)
    assert catalogue.find_model(str(cached / "snapshots" / "bbb"), folders=True).name == "some/blip2--tuned"
    (cached / "refs" / "main").write_text("gone", "utf-8")
    assert catalogue.find_model(str(cached), folders=True).language_model_type in ("t5", "bloom")
    shutil.rmtree(cached / "snapshots")
    assert "no config.json" in catalogue.find_operator_model(str(cached)).load_error


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    """The second silently replaced the first: b was listed, a was loaded."""
    spec = replace(catalogue.MODELS["blip2-opt-2.7b"], name="m", is_folder=True)
    first, second = (replace(spec, source=str(tmp_path / part / "m")) for part in "ab")
    with pytest.raises(ModelError) as caught:
        catalogue.check_unique_names([first, catalogue.MODELS["mblip-mt0-xl"], second])
    assert all(part in str(caught.value) for part in ("'m'", first.source, second.source, "Rename"))
    same = replace(first, source=str(tmp_path / "b" / ".." / "a" / "m"))
    catalogue.check_unique_names([first, same, *catalogue.MODELS.values()])


def test_layers_that_overflow_in_int8_are_not_counted_as_quantized(tmp_path: Path) -> None:
    block = "language_model.encoder.block.0.layer"
    names = (
        f"{block}.0.SelfAttention.q.weight",
        f"{block}.0.SelfAttention.relative_attention_bias.weight",
        f"{block}.1.DenseReluDense.wi_0.weight",
        f"{block}.1.DenseReluDense.wo.weight",
        "language_model.lm_head.weight",
        "qformer.encoder.layer.0.attention.attention.query.weight",
    )
    spec = catalogue.read_folder(
        write_weights(write_folder(tmp_path, model_type="blip-2", text_config={"model_type": "t5"}), *names)
    )
    assert (spec.parameters, spec.quantized_parameters) == (6, 2)
