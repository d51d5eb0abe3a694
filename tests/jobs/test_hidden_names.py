"""Which names are hidden."""

import pytest

from blip_space.jobs.hidden_names import is_hidden


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store",
        "holiday/._photo.jpg",
        "__MACOSX/holiday/a.png",
        "a/.ipynb_checkpoints/cat-checkpoint.png",
        ".git/x.png",
        "a/b/@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
        "$Recycle.Bin/S-1-5/a.png",
        "System Volume Information/a.png",
        ".Trash-1000/files/a.png",
        "lost+found/a.png",
        "a/__pycache__/b.png",
        "#recycle/a.png",
        "THUMBS.DB",
        "a/Desktop.ini",
    ],
)
def test_names_with_a_dot_and_names_of_systems_are_hidden(name: str) -> None:
    """Case hidden-folder: hidden is a property of the whole path, not of its last part."""
    assert is_hidden(name)


@pytest.mark.parametrize(
    "name",
    ["a.png", "a/b.c/d.png", "../a.png", "./a.png", "recycle/a.png", "my .git/a.png", "/a.png", "Thumbs.db.png", ""],
)
def test_other_names_are_not_hidden(name: str) -> None:
    assert not is_hidden(name)
