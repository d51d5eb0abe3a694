"""A run of the smoke recipe: every stage, an interruption, and an export that standard loaders read."""

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
from training.stages.tokenizer import load_tokenizer
from training.stages.vision_encoder import restore_modules
from training.tasks.samples import SampleKind, make_sample

ROOT = Path(__file__).parents[2]


class InterruptionError(Exception):
    """Interrupts a run in these tests."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Path:
    """A complete run of the smoke recipe; its folder `tiny` has the export."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "sources").symlink_to(sources)
    options = ["--recipe", "smoke", "--runs", str(folder), "--output", str(folder / "tiny"), "--device", "cpu"]
    subprocess.run([sys.executable, "-m", "training", *options], check=True, cwd=ROOT)
    return folder


def context_in(folder: Path) -> TrainingContext:
    return TrainingContext(RECIPES["smoke"], folder / "smoke", RUNS / "sources", torch.device("cpu"))


def test_a_resumed_stage_ends_with_the_weights_of_an_uninterrupted_one(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = checkpoints.save_checkpoint, []

    def save_then_fail(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        calls.append(path.stem)
        if calls.count("vision") == 5:  # the file's name
            raise InterruptionError

    monkeypatch.setattr(checkpoints, "save_checkpoint", save_then_fail)
    with pytest.raises(InterruptionError):
        pipeline.run_stage("vision_encoder", context_in(tmp_path), output=tmp_path)
    monkeypatch.undo()
    pipeline.run_stage("vision_encoder", context_in(tmp_path), output=tmp_path)
    interrupted, complete = (
        checkpoints.load_checkpoint(context_in(folder).checkpoint_path("vision_encoder")) for folder in (tmp_path, runs)
    )
    assert interrupted is not None
    assert complete is not None
    weights = interrupted["modules"]["model"]
    for name, tensor in complete["modules"]["model"].items():
        torch.testing.assert_close(weights[name], tensor)


def test_a_finished_stage_is_not_run_again(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for stage in STAGES:
        pipeline.run_stage(stage, context_in(runs), output=runs)
    assert capsys.readouterr().out.count("finished already") == len(STAGES)


def test_a_run_starts_from_a_trained_model(runs: Path, tmp_path: Path, sources: Path) -> None:
    before = Blip2ForConditionalGeneration.from_pretrained(runs / "tiny")
    context = TrainingContext(RECIPES["smoke"], tmp_path, sources, torch.device("cpu"), initial_model=runs / "tiny")
    restored, _ = restore_modules(context, vocabulary=len(load_tokenizer(context)), stage="qformer")
    assert torch.equal(restored.query_tokens, before.query_tokens)
    pipeline.run_all(context, output=tmp_path / "tiny")
    after = Blip2ForConditionalGeneration.from_pretrained(tmp_path / "tiny")
    assert not torch.equal(before.query_tokens, after.query_tokens)
    sample, two = (AutoTokenizer.from_pretrained(folder / "tiny").get_vocab() for folder in (runs, tmp_path))
    assert sample == two


def test_standard_loaders_read_the_export(runs: Path) -> None:
    model = Blip2ForConditionalGeneration.from_pretrained(runs / "tiny")
    processor = AutoProcessor.from_pretrained(runs / "tiny")
    assert model.config.text_config.model_type == "mt5"
    assert model.config.num_query_tokens == processor.num_query_tokens
    assert model.config.image_token_index == processor.tokenizer.convert_tokens_to_ids("<image>")
    assert model.language_model.generation_config.decoder_start_token_id == 0


def test_the_card_has_the_run_and_the_figures(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate.main([str(runs / "tiny"), "--each", "1"])
    card = (runs / "tiny" / "README.md").read_text(encoding="utf-8")
    assert card.count("how many (1–4)") == 4  # everyday objects, their languages, flat shapes in two drawing styles
    assert "twemoji (not in the training data)" in card
    assert "seed 20261121" in card
    assert "plain Pillow" in capsys.readouterr().out


def test_every_sample_and_any_text_survive_the_tokenizer(runs: Path, sources: Path) -> None:
    lexicons = {code: load_lexicon(code, sources) for code in language_codes()}
    tokenizer = AutoTokenizer.from_pretrained(runs / "tiny")
    rng = random.Random(3)
    texts = ["naïve 😀👨‍👩‍👧 Ελλάδα", "a  b", "line\nbreak", "क्‍ष", "<b> $x$ * ", "ไทย", "Caption in German: "]
    for index in range(100):
        scene = sample_scene(3, index, split="round trip")
        kind: SampleKind = "any" if index % 2 else "dialogue"
        sample = make_sample(scene, rng, kind=kind, lexicons=lexicons, codes=tuple(lexicons), distractor=scene)
        texts += [sample.prompt, sample.answer]
    for text in texts:
        ids = tokenizer(text).input_ids
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
