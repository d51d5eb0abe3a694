"""Laws of the catalogue, and what a folder says of itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from blip_space import catalogue
from blip_space.errors import ModelError
from blip_space.prompts import STYLES


def folder(path: Path, **config: Any) -> Path:
    """A folder with that configuration and no weights."""
    (path / "config.json").write_text(json.dumps(config), "utf-8")
    return path


def test_every_row_can_be_found_prompted_and_priced() -> None:
    for name in catalogue.NAMES:
        spec = catalogue.find(name)
        assert spec.name == name
        assert spec.style in STYLES
        assert spec.memory_gb["bf16"] * 2 == pytest.approx(spec.memory_gb["fp32"], rel=0.01)


def test_blip2_speaks_english_and_mblip_speaks_96_languages() -> None:
    assert catalogue.find("blip2-flan-t5-xl").languages == ("en",)
    assert len(catalogue.find("mblip-mt0-xl").languages) == 96
    assert catalogue.speakers("de") == ["mblip-mt0-xl", "mblip-bloomz-7b"]


@pytest.mark.parametrize("name", ["", "gpt", "../tiny", "/etc"])
def test_an_unknown_name_is_a_sentence_that_lists_the_models(name: str) -> None:
    with pytest.raises(ModelError, match=r"The models are tiny, blip2-opt-2\.7b"):
        catalogue.find(name)


def test_a_path_is_a_model_only_where_paths_are_allowed(tmp_path: Path) -> None:
    folder(tmp_path, model_type="blip-2", text_config={"model_type": "bloom"})
    assert catalogue.find(str(tmp_path), folders=True).name == tmp_path.name
    with pytest.raises(ModelError, match="no model"):
        catalogue.find(str(tmp_path))


@pytest.mark.parametrize(
    ("text_type", "style", "languages"),
    [("opt", "blip2", 1), ("t5", "blip2", 1), ("mt5", "mblip", 96), ("bloom", "mblip", 96)],
)
def test_a_folder_is_taken_for_what_its_language_model_is(
    tmp_path: Path, text_type: str, style: str, languages: int
) -> None:
    spec = catalogue.read_folder(folder(tmp_path, model_type="blip-2", text_config={"model_type": text_type}))
    assert (spec.family, spec.style, len(spec.languages)) == (text_type, style, languages)


def test_blip_space_json_says_otherwise(tmp_path: Path) -> None:
    folder(tmp_path, model_type="blip-2", text_config={"model_type": "mt5"})
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
    assert (spec.name, spec.style, spec.languages, spec.knows) == ("mine", "blip2", ("en", "de"), "Cats.")
    assert spec.unknown == {"Eh?"}
    assert spec.context_tokens == 128


def test_a_folder_that_is_no_blip2_is_refused_by_its_name_alone(tmp_path: Path) -> None:
    for config in ({"model_type": "llama"}, {"model_type": "blip-2", "text_config": {"model_type": "llama"}}):
        with pytest.raises(ModelError, match="not a BLIP-2") as caught:
            catalogue.read_folder(folder(tmp_path, **config))
        assert str(tmp_path.parent) not in str(caught.value)
    (tmp_path / "config.json").write_text("{", "utf-8")
    with pytest.raises(ModelError, match="cannot be read"):
        catalogue.read_folder(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        catalogue.read_folder(tmp_path)


def test_an_owners_folder_that_is_no_checkpoint_keeps_its_fault_for_the_page(tmp_path: Path) -> None:
    spec = catalogue.offered(str(tmp_path))
    assert spec.name == tmp_path.name
    assert "no config.json" in spec.fault
    assert catalogue.offered("mblip-mt0-xl").fault == ""
    with pytest.raises(ModelError, match="no folder"):
        catalogue.offered(str(tmp_path / "nowhere"))
