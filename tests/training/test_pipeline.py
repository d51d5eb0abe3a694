"""The whole run at the smoke scale: every stage, a stop in the middle, and a folder that standard loaders read."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor, AutoTokenizer, Blip2ForConditionalGeneration

from training import evaluate
from training.__main__ import RUNS
from training.lexicon.lexicon import language_codes, load_lexicon
from training.recipe import RECIPES
from training.scenes.mixture import sample_scene
from training.stages import checkpoints, pipeline
from training.stages.loop import STAGES, TrainingContext
from training.stages.vision_encoder import restore_modules
from training.tasks.samples import SampleKind, make_sample

ROOT = Path(__file__).parents[2]


class PowerCutError(Exception):
    """What ends a run in the middle here."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Path:
    """A run at the smoke scale, whole and undisturbed; its folder `tiny` holds the export."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "sources").symlink_to(sources)
    options = ["--recipe", "smoke", "--runs", str(folder), "--output", str(folder / "tiny"), "--device", "cpu"]
    subprocess.run([sys.executable, "-m", "training", *options], check=True, cwd=ROOT)
    return folder


def workshop(folder: Path) -> TrainingContext:
    return TrainingContext(RECIPES["smoke"], folder / "smoke", RUNS / "sources", torch.device("cpu"))


def test_a_stopped_stage_ends_with_the_weights_of_one_that_was_not(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = checkpoints.save_checkpoint, []

    def save_then_fail(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        calls.append(path.stem)
        if calls.count("vision") == 5:
            raise PowerCutError

    monkeypatch.setattr(checkpoints, "save", save_then_fail)
    with pytest.raises(PowerCutError):
        pipeline.run_stage("vision", workshop(tmp_path), output=tmp_path)
    monkeypatch.undo()
    pipeline.run_stage("vision", workshop(tmp_path), output=tmp_path)
    interrupted, whole = (
        checkpoints.load_checkpoint(workshop(folder).checkpoint_path("vision")) for folder in (tmp_path, runs)
    )
    assert interrupted is not None
    assert whole is not None
    weights = interrupted["modules"]["model"]
    for name, tensor in whole["modules"]["model"].items():
        torch.testing.assert_close(weights[name], tensor)


def test_a_finished_stage_is_not_run_again(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stage in STAGES:
        pipeline.run_stage(stage, workshop(runs), output=runs)
    assert capsys.readouterr().out.count("finished already") == len(STAGES)


def test_a_run_goes_on_from_a_finished_model(runs: Path, tmp_path: Path, sources: Path) -> None:
    before = Blip2ForConditionalGeneration.from_pretrained(runs / "tiny")
    context = TrainingContext(RECIPES["smoke"], tmp_path, sources, torch.device("cpu"), initial_model=runs / "tiny")
    begun, _ = restore_modules(context, vocabulary=len(pipeline.load_tokenizer(context)), stage="sight")
    assert torch.equal(begun.query_tokens, before.query_tokens)
    pipeline.run_all(context, output=tmp_path / "tiny")
    after = Blip2ForConditionalGeneration.from_pretrained(tmp_path / "tiny")
    assert not torch.equal(before.query_tokens, after.query_tokens)
    one, two = (AutoTokenizer.from_pretrained(folder / "tiny").get_vocab() for folder in (runs, tmp_path))
    assert one == two


def test_standard_loaders_read_the_export(runs: Path) -> None:
    model = Blip2ForConditionalGeneration.from_pretrained(runs / "tiny")
    processor = AutoProcessor.from_pretrained(runs / "tiny")
    assert model.config.text_config.model_type == "mt5"
    assert model.config.num_query_tokens == processor.num_query_tokens
    assert model.config.image_token_index == processor.tokenizer.convert_tokens_to_ids("<image>")
    assert model.language_model.generation_config.decoder_start_token_id == 0


def test_the_card_has_its_run_and_its_figures(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate.main([str(runs / "tiny"), "--each", "1"])
    card = (runs / "tiny" / "README.md").read_text(encoding="utf-8")
    assert card.count("how many (1–4)") == 4  # everyday things, their languages, flat shapes in two hands
    assert "twemoji (never seen in training)" in card
    assert "seed 20261121" in card
    assert "plain Pillow" in capsys.readouterr().out


def test_every_lesson_and_any_text_survive_the_tokenizer(runs: Path, sources: Path) -> None:
    lexicons = {code: load_lexicon(code, sources) for code in language_codes()}
    tokenizer = AutoTokenizer.from_pretrained(runs / "tiny")
    rng = random.Random(3)
    texts = ["naïve 😀👨‍👩‍👧 Ελλάδα", "a  b", "line\nbreak", "क्‍ष", "<b> $x$ * ", "ไทย", "Caption in German: "]
    for index in range(100):
        here = sample_scene(3, index, split="round trip")
        kind: SampleKind = "any" if index % 2 else "dialogue"
        one = make_sample(here, rng, kind=kind, lexicons=lexicons, codes=tuple(lexicons), distractor=here)
        texts += [one.prompt, one.answer]
    for text in texts:
        ids = tokenizer(text).input_ids
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
