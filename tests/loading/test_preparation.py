"""A preparation without a model: the same token ids, pixel values and errors as with the loaded model."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import Blip2Config

from blip_space.catalogue import TINY_FOLDER, ModelSpec, read_folder
from blip_space.errors import ModelError
from blip_space.loading.loader import load_model
from blip_space.loading.preparation import load_preparation
from blip_space.models.families.blip2 import Blip2
from tests.checkpoints import blip2
from tests.checkpoints.generation import OPTIONS, blip2_preparation, image_features, image_positions

TEXT = "Question: how many cats are there? Answer:"


def test_preparation_equals_that_of_the_loaded_model(model: Blip2, two_images: list[Image.Image]) -> None:
    preparation = load_preparation(model.spec)
    (features,) = image_features(model, two_images[:1])
    assert image_positions(preparation) == len(features) == blip2.QUERY_TOKENS[model.spec.name]
    assert preparation.encode(TEXT) == model.preparation.encode(TEXT)
    assert preparation.decode(preparation.encode(TEXT)) == model.decode(model.preparation.encode(TEXT))
    for image in two_images:
        pixels = preparation.pixels(image, OPTIONS)
        assert torch.equal(pixels, model.preparation.pixels(image, OPTIONS))
        assert pixels.shape == (1, 3, 28, 28)


def test_features_have_the_language_models_dtype(folders: dict[str, Path], two_images: list[Image.Image]) -> None:
    """Under fp16 the Q-Former keeps fp32."""
    model = load_model(read_folder(folders["opt"]), "fp32")
    expected = image_features(model, two_images)
    for part in ("vision_model", "language_projection"):
        getattr(model._hf_model, part).to(torch.bfloat16)
        features = image_features(model, two_images)
        assert features.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(features.flatten(), expected.flatten(), dim=0) > 0.99


def test_weights_are_not_read(folders: dict[str, Path], tmp_path: Path) -> None:
    """Requests are prepared while the model is loaded or not available yet."""
    shutil.copytree(folders["opt"], tmp_path / "opt")
    spec = read_folder(tmp_path / "opt")
    (tmp_path / "opt" / "model.safetensors").write_bytes(b"no weights")
    assert len(load_preparation(spec).encode(TEXT)) > 0


def test_no_model_is_built() -> None:
    program = (
        "import sys; from blip_space.catalogue import find_model; from blip_space.loading import preparation\n"
        "preparation.load_preparation(find_model('tiny'))\n"
        "print('transformers.models.blip_2.modeling_blip_2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


def test_missing_entries_of_config_json_have_the_defaults_of_transformers(tmp_path: Path) -> None:
    shutil.copytree(TINY_FOLDER, tmp_path / "defaults", ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((tmp_path / "defaults" / "config.json").read_text())
    del config["num_query_tokens"], config["vision_config"]["image_size"]
    (tmp_path / "defaults" / "config.json").write_text(json.dumps(config))
    spec = replace(read_folder(TINY_FOLDER), source=str(tmp_path / "defaults"))
    preparation = blip2_preparation(load_preparation(spec))
    expected = Blip2Config.from_dict(config)
    assert (preparation.query_tokens, preparation.image_processor.size) == (32, 224)
    assert (expected.num_query_tokens, expected.vision_config.image_size) == (32, 224)


def test_preparation_is_safe_from_many_threads(two_images: list[Image.Image]) -> None:
    preparation = load_preparation(read_folder(TINY_FOLDER))

    def prepare(number: int) -> tuple[list[int], str, float]:
        ids = preparation.encode(f"{TEXT} {number}")
        return ids, preparation.decode(ids), float(preparation.pixels(two_images[number % 2], OPTIONS).sum())

    expected = [prepare(number) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(prepare, range(40))) == expected


def remove_file(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).unlink()


def replace_file(name: str, content: Any) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def change_config(**fields: Any) -> Callable[[Path], Any]:
    return lambda folder: replace_file("config.json", json.loads((folder / "config.json").read_text()) | fields)(folder)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "no tokenizer": remove_file("tokenizer.json"),
    "odd tokenizer": replace_file("tokenizer.json", "{"),
    "no config": remove_file("config.json"),
    "odd config": replace_file("config.json", "{"),
    "another kind": change_config(model_type="llava"),
    "no language model": change_config(text_config=None),
    "odd number": change_config(num_query_tokens="many"),
    "odd encoder": change_config(vision_config={"image_size": "large"}),
    "odd colours": replace_file("processor_config.json", {"image_processor": {"image_mean": [0.5]}}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_errors_are_those_of_loading(folders: dict[str, Path], tmp_path: Path, damage: str) -> None:
    shutil.copytree(folders["mt5"], tmp_path / "mt")
    spec = read_folder(tmp_path / "mt")
    DAMAGE[damage](tmp_path / "mt")
    with pytest.raises(ModelError) as expected:
        load_model(spec)
    with pytest.raises(ModelError) as caught:
        load_preparation(spec)
    assert str(caught.value) == str(expected.value)
    assert str(tmp_path) not in str(caught.value)


def test_model_with_a_load_error_is_refused() -> None:
    with pytest.raises(ModelError, match="it is damaged"):
        load_preparation(
            ModelSpec("x", "x", "blip2", "opt", "blip2", 0, (), is_folder=True, load_error="it is damaged")
        )
