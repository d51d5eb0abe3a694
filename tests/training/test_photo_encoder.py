"""The committed reports of photographs are those that the language model was trained to read."""

from __future__ import annotations

import json

from safetensors.torch import load_file

from blip_space.catalogue import TINY_FOLDER
from training.photo_encoder import CLASS_MAP, REPORTS, reports
from training.recipe import Sizes
from training.scenes.concepts import concepts


def test_the_committed_reports_are_written_with_the_codebook_of_the_language_model() -> None:
    names = list(json.loads((TINY_FOLDER / CLASS_MAP).read_text("utf-8"))["concepts"])
    committed = load_file(TINY_FOLDER / REPORTS)
    for name, expected in reports(names, Sizes().text_width).items():
        difference = (committed[name].float() - expected.float()).abs().max()
        assert difference < 0.05, name  # an orthogonal matrix is rounded differently by another number of threads


def test_every_photograph_gets_the_name_of_a_concept_that_is_trained() -> None:
    mapped = json.loads((TINY_FOLDER / CLASS_MAP).read_text("utf-8"))["concepts"]
    assert set(mapped) <= {concept.name for concept in concepts()}
    classes = [number for numbers in mapped.values() for number in numbers]
    assert len(mapped) == 145
    assert len(classes) == len(set(classes)) == 451
    assert all(0 <= number < 1000 for number in classes)
