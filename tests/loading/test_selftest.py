"""A model that ignores the image is refused."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from blip_space.catalogue import read_folder
from blip_space.errors import ModelError
from blip_space.loading import selftest
from blip_space.loading.loader import load_model
from blip_space.loading.selftest import check_lm_head, make_test_images, relative_difference
from blip_space.models.families.blip2 import FAMILY
from tests.checkpoints import blip2
from tests.engine.fake_model import FakePrecision, FakePreparation, spec


def change_tensors(folder: Path, **changes: Any) -> Path:
    """Change the tensors whose names have these endings."""
    weights = load_file(folder / "model.safetensors")
    for ending, change in changes.items():
        for key in [key for key in weights if key.endswith(ending.replace("__", "."))]:
            weights[key] = change(weights[key])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_checkpoint_that_ignores_the_image_is_refused(tmp_path: Path, family: str) -> None:
    folder = change_tensors(blip2.write(tmp_path / "blind", family), language_projection__weight=torch.zeros_like)
    with pytest.raises(ModelError, match=r"^blind ignores the image: ") as caught:
        load_model(read_folder(folder))
    assert str(tmp_path) not in str(caught.value)


def test_checkpoint_with_zero_patch_embeddings_is_refused(tmp_path: Path) -> None:
    """All its patches are equal."""
    folder = change_tensors(
        blip2.write(tmp_path / "dark", "mt5"),
        patch_embedding__weight=torch.zeros_like,
    )
    with pytest.raises(ModelError, match="ignores the image"):
        load_model(read_folder(folder))


@pytest.mark.parametrize("ending", ["language_projection__weight", "final_layer_norm__weight"])
def test_logits_that_are_not_finite_are_refused(tmp_path: Path, ending: str) -> None:
    nan = {ending: lambda weight: torch.full_like(weight, float("nan"))}
    folder = change_tensors(blip2.write(tmp_path / "broken", "opt"), **nan)
    with pytest.raises(ModelError, match="not finite"):
        load_model(read_folder(folder))


def test_tokenizer_that_cannot_encode_language_names_is_refused(tmp_path: Path) -> None:
    folder = blip2.write(tmp_path / "mute", "mt5")
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    tokenizer["model"]["vocab"] = [piece for piece in tokenizer["model"]["vocab"] if "z" not in piece[0]]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    with pytest.raises(ModelError, match="tokenizer of mute cannot encode 'Azerbaijani'"):
        load_model(read_folder(folder))


def test_image_token_outside_the_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = blip2.write(tmp_path / "beyond", "opt")
    config = json.loads((folder / "config.json").read_text())
    config["image_token_index"] = config["text_config"]["vocab_size"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ModelError, match=r"image token in config\.json of beyond is \d+, and its vocabulary has \d+ tokens"
    ):
        load_model(read_folder(folder))


def test_tied_head_is_refused_where_another_is_stored(tmp_path: Path) -> None:
    folder = blip2.write(tmp_path / "tied", "t5")
    weights = [folder / "model.safetensors"]
    hf_model = load_model(read_folder(folder))._hf_model
    check_lm_head(hf_model, weights, FAMILY, name="tied")
    hf_model.language_model.lm_head.weight = hf_model.language_model.shared.weight
    with pytest.raises(ModelError, match="replaced the output layer of tied by its input embedding"):
        check_lm_head(hf_model, weights, FAMILY, name="tied")


@pytest.mark.parametrize(
    ("features", "logits", "message"),
    [
        ((1.0, 2.0), (1.0, 2.0), ""),
        ((1.0, 2.0), (1.0, 1.0), "ignores the image"),  # the image positions are not filled
        ((1.0, 1.000001), (1.0, 2.0), "ignores the image"),
        ((1.0, float("inf")), (1.0, 2.0), "not finite"),
        ((1.0, 2.0), (1.0, float("nan")), "not finite"),
    ],
)
def test_first_token_must_depend_on_the_image(
    features: tuple[float, float], logits: tuple[float, float], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparation = FakePreparation(spec())
    model: Any = SimpleNamespace(
        preparation=preparation,
        spec=preparation.spec,
        precision=FakePrecision(),
        decoder=None,
        encode_images=lambda _: [torch.tensor([[number]]) for number in features],
        embed=lambda _, items: 0 if torch.equal(items[0], torch.tensor([[features[0]]])) else 1,
    )
    monkeypatch.setattr(selftest, "first_logits", lambda _, index: torch.tensor([[logits[index]]]))
    with pytest.raises(ModelError, match=message) if message else nullcontext():
        selftest.check_image_is_used(model)


def test_difference_is_relative() -> None:
    row = torch.ones(4)
    assert relative_difference(torch.stack([row, row])) == 0
    assert relative_difference(torch.zeros(2, 4)) == 0
    near, far = torch.stack([row, row * 1.1]), torch.stack([row * 1000, row * 1100])
    assert relative_difference(near) == pytest.approx(relative_difference(far))


def test_test_images_differ() -> None:
    first, second = make_test_images(28)
    assert first.tobytes() != second.tobytes()
