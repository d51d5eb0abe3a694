"""Loading checkpoints of folders, and the errors of damaged ones: one sentence, without a path."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from blip_space.catalogue import ModelSpec, find_operator_model, read_folder
from blip_space.errors import ModelError
from blip_space.loading.loader import load_model
from blip_space.models.families.blip2 import Blip2
from blip_space.models.interface import VisionLanguageModel
from blip_space.options import GenerationOptions
from tests.checkpoints import blip2
from tests.checkpoints.generation import image_features, image_positions, new_tokens

OPTIONS = GenerationOptions(max_new_tokens=10)


def answer(model: VisionLanguageModel, image: Image.Image) -> list[int]:
    return new_tokens(model, image, "a photo of", OPTIONS)


def test_old_layout_gives_the_same_answers(
    model: Blip2, folders: dict[str, Path], family: str, tmp_path: Path, two_images: list[Image.Image]
) -> None:
    """Of 2023's checkpoints `generate` of transformers >= 4.57 either raises or silently ignores the image."""
    folder = blip2.write_old(tmp_path / "old", folders[family])
    old = load_model(read_folder(folder))
    for image in two_images:
        assert answer(old, image) == answer(model, image)


def test_shards_load(tmp_path: Path, two_images: list[Image.Image], model: Blip2, family: str) -> None:
    folder = blip2.write(tmp_path / "sharded", family, max_shard_size="50KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert answer(load_model(read_folder(folder)), two_images[0]) == answer(model, two_images[0])


def test_bf16_loads_and_answers(folders: dict[str, Path], family: str, two_images: list[Image.Image]) -> None:
    model = load_model(read_folder(folders[family]), "bf16")
    features = image_features(model, two_images)
    assert features.dtype == torch.bfloat16
    assert features.isfinite().all()
    assert answer(model, two_images[0])
    assert model.precision.name == "bf16"


def test_loaded_model_has_its_spec_and_precision(model: Blip2, family: str) -> None:
    assert (image_positions(model.preparation), model.spec.context_tokens) == (blip2.QUERY_TOKENS[family], 512)
    assert (model.spec.name, model.precision.name, model.precision.device) == (family, "fp32", "cpu")


def test_opt_stops_at_the_newline(loaded: Callable[[str], Blip2]) -> None:
    """`</s>` is the end token of OPT's tokenizer, but its training captions end with a newline."""
    model = loaded("opt")
    stop = model._hf_model.language_model.generation_config.eos_token_id
    assert model.preparation.decode([stop]) == "\n"


def test_untied_head_stays_untied_whatever_the_configuration(
    tmp_path: Path, two_images: list[Image.Image], loaded: Callable[[str], Blip2]
) -> None:
    """transformers 5 ties mT5's head by default; a stored head that differs must be used."""
    folder = blip2.write(tmp_path / "untied", "mt5")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"].pop("tie_word_embeddings", None)
    (folder / "config.json").write_text(json.dumps(config))
    assert answer(load_model(read_folder(folder)), two_images[0]) == answer(loaded("mt5"), two_images[0])


def test_loading_is_silent(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    load_model(read_folder(folders["mt5"]))
    assert capfd.readouterr() == ("", "")


def test_closed_model_has_no_weights(folders: dict[str, Path]) -> None:
    model = load_model(read_folder(folders["bloom"]))
    model.close()
    assert not hasattr(model, "_hf_model")
    assert not hasattr(model, "decoder")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, part: str, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (config[part] if part else config).update(values)
    (folder / "config.json").write_text(json.dumps(config))


def interrupt_download(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / ".cache").mkdir()
    (folder / ".cache" / "abc.incomplete").write_bytes(b"")


def remove_shard(folder: Path) -> None:
    shard = {"weight_map": {"query_tokens": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(shard))


def broken_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("[]")


def odd_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": ["model.safetensors"]}')


def empty_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {}}')


def replace_weights(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / "model.safetensors").rename(folder / name)


def change_file(name: str, **values: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text("utf-8"))
        (folder / name).write_text(json.dumps(content | values), "utf-8")

    return change


def only_a_pickle(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "mt has no supported weights"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "mt has no tokenizer"),
    "incomplete download": (interrupt_download, "download of mt was interrupted"),
    "truncated": (
        lambda folder: truncate(folder / "model.safetensors"),
        "model.safetensors of mt is damaged or incomplete",
    ),
    "empty": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "is damaged or incomplete"),
    "shard missing": (remove_shard, "mt lacks model-00001-of-00002.safetensors"),
    "broken index": (broken_index, "index.json of mt cannot be read"),
    "index without names": (odd_index, "index.json of mt cannot be read"),
    "index of nothing": (empty_index, "index.json of mt cannot be read, or lists no files"),
    "invalid header": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"[]"),
        "is damaged or incomplete",
    ),
    "of LAVIS": (
        replace_weights("blip2_pretrained_flant5xl.pth"),
        "holds blip2_pretrained_flant5xl.pth.* choose one of",
    ),
    "of llama.cpp": (replace_weights("mt.gguf"), "weights as GGUF.* the original checkpoint"),
    "odd tokenizer": (
        change_file("tokenizer_config.json", added_tokens_decoder={"x": "y"}),
        "tokenizer of mt cannot be read",
    ),
    "odd colours": (
        change_file("processor_config.json", image_processor={"image_mean": [0.5, 0.5]}),
        "The image processor of mt .* Copy it again",
    ),
    "odd images": (change_file("processor_config.json", image_processor=[1]), "The image processor of mt"),
    "odd number of queries": (
        lambda folder: change_config(folder, "", num_query_tokens=10**30),
        "cannot be loaded into the model that its config.json describes",
    ),
    "language model removed": (
        lambda folder: change_config(folder, "", text_config=None),
        "does not describe its language model",
    ),
    "only a pickle": (only_a_pickle, "weights as a pickle .* may run code"),
    "missing part": (
        lambda folder: change_weights(folder, lambda weights: weights.pop("query_tokens")),
        "do not fit: query_tokens are missing",
    ),
    "missing layer": (
        lambda folder: change_config(folder, "vision_config", num_hidden_layers=3),
        "do not fit: .* and 11 more are missing",
    ),
    "layers too many": (
        lambda folder: change_config(folder, "vision_config", num_hidden_layers=1),
        "do not fit: .* are not part of",
    ),
    "other shape": (
        lambda folder: change_config(folder, "qformer_config", intermediate_size=60),
        "do not fit: .* have another shape",
    ),
    "other vocabulary": (
        lambda folder: change_config(folder, "text_config", vocab_size=99),
        "image token in config.json of mt is",
    ),
    "broken preprocessor": (
        lambda folder: (folder / "preprocessor_config.json").write_text("{"),
        "The image processor of mt",
    ),
    "broken config": (lambda folder: change_config(folder, "", vision_config=7), "config.json of mt cannot be read"),
}


@pytest.mark.parametrize(("damage", "sentence"), DAMAGE.values(), ids=DAMAGE.keys())
def test_error_for_a_damaged_checkpoint_is_a_sentence_without_a_path(
    folders: dict[str, Path], tmp_path: Path, damage: Callable[[Path], Any], sentence: str
) -> None:
    folder = tmp_path / "mt"
    shutil.copytree(folders["mt5"], folder)
    spec = read_folder(folder)
    damage(folder)
    with pytest.raises(ModelError, match=sentence) as caught:
        load_model(spec)
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert str(tmp_path) not in message


def test_harmless_extra_tensors_are_ignored(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "extra"
    shutil.copytree(folders["mt5"], folder)
    change_weights(folder, lambda weights: weights.update({"qformer.cls.predictions.bias": torch.zeros(3)}))
    assert image_positions(load_model(read_folder(folder)).preparation) == 4


def test_unknown_precision_is_reported_before_anything_is_read() -> None:
    spec = ModelSpec("x", "no/such", "blip2", "opt", "blip2", 1, ("en",))
    with pytest.raises(ModelError, match="no precision 'int3'"):
        load_model(spec, "int3")


def test_load_error_of_the_spec_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a checkpoint"):
        load_model(find_operator_model(str(tmp_path)))


def test_unexpected_error_is_a_sentence_with_its_traceback_in_the_log(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("/secret/path")

    monkeypatch.setattr("blip_space.loading.loader.check_image_is_used", fail)
    caplog.set_level(logging.DEBUG, "blip_space")
    with pytest.raises(ModelError, match=r"mt5 could not be loaded: ZeroDivisionError .*mt5 as its language") as caught:
        load_model(read_folder(folders["mt5"]))
    assert "secret" not in str(caught.value)
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("step", ["check_image_is_used", "find_weight_files"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError("out of memory")])
def test_interrupts_and_out_of_memory_are_not_unexpected_errors(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, error: BaseException, step: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(f"blip_space.loading.loader.{step}", fail)
    with pytest.raises((ModelError, KeyboardInterrupt)) as caught:
        load_model(read_folder(folders["mt5"]))
    assert isinstance(caught.value, KeyboardInterrupt) == isinstance(error, KeyboardInterrupt)
    assert isinstance(caught.value, KeyboardInterrupt) or "memory" in str(caught.value)
