"""Laws of the listing: what is an image is taken, and what is passed by is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from blip_space.errors import UserError
from blip_space.jobs import folder_listing
from tests.jobs.folder_fixtures import draw


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    draw(folder / "a.png", 0)
    return folder


def find(
    folder: Path, *, recursive: bool = True, pattern: str | None = None, limit: int | None = None
) -> folder_listing.Listing:
    return folder_listing.find_images(folder, recursive=recursive, pattern=pattern, limit=limit)


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(path.with_suffix(".png"), 1)
    return path.with_suffix(".png").rename(path)


@pytest.mark.parametrize("name", ["b.jpe", "b.mpo", "b.apng", "b.JPG", "b.jpg_large", "b", "b.php", "b.png.1", "b.tmp"])
def test_an_image_is_known_by_its_ending_or_by_its_first_bytes(folder: Path, name: str) -> None:
    """Case endings-of-pictures: names without a known ending were left out without a word."""
    image(folder / name)
    assert find(folder).names == ["a.png", name]


@pytest.mark.parametrize("name", ["b.txt", "b.json", "notes", "b.pdf"])
def test_what_is_no_image_is_passed_by_and_counted(folder: Path, name: str) -> None:
    (folder / name).write_text("words")
    assert str(find(folder)) == "1 image taken; passed by: 1 other files"


@pytest.mark.parametrize("place", [".ipynb_checkpoints", ".git", "__MACOSX", "@eaDir", "sub/.hidden"])
def test_what_is_hidden_or_made_by_a_machine_is_passed_by_wherever_it_lies(folder: Path, place: str) -> None:
    """Case hidden-folder: an image in a hidden folder was captioned."""
    image(folder / place / "copy.png")
    listing = find(folder)
    assert listing.names == ["a.png"]
    assert listing.ignored == {folder_listing.HIDDEN: 1}


def test_a_folder_that_is_not_looked_into_is_counted(folder: Path) -> None:
    image(folder / "cats" / "b.png")
    assert "1 subfolders (--recursive looks into them)" in str(find(folder, recursive=False))
    assert find(folder).names == ["a.png", "cats/b.png"]


def test_a_linked_folder_is_followed_once_and_under_its_own_name(folder: Path, tmp_path: Path) -> None:
    image(tmp_path / "elsewhere" / "b.png")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "a_second").symlink_to(tmp_path / "elsewhere")
    (folder / "up").symlink_to(folder)
    listing = find(folder)
    assert listing.names == ["a.png", "a_second/b.png"]
    assert listing.ignored == {folder_listing.LINKED_TWICE: 2}


def test_a_folder_comes_before_a_link_to_it(folder: Path) -> None:
    image(folder / "z" / "b.png")
    (folder / "a_link").symlink_to(folder / "z")
    assert find(folder).names == ["a.png", "z/b.png"]


def test_links_and_pipes_that_hold_no_image_are_counted_and_not_opened(folder: Path) -> None:
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    os.mkfifo(folder / "pipe.png")
    assert find(folder).ignored == {folder_listing.BROKEN_LINK: 2, folder_listing.NOT_A_FILE: 1}


@pytest.mark.parametrize(
    ("pattern", "recursive", "names"),
    [
        ("*.png", False, ["a.png"]),
        ("*.png", True, ["a.png", "cats/b.png", "cats/old/c.png"]),
        ("cats/*.png", False, ["cats/b.png"]),
        ("cats/**/*.png", False, ["cats/b.png", "cats/old/c.png"]),
        ("**/*.png", False, ["a.png", "cats/b.png", "cats/old/c.png"]),
        ("**x", True, []),
        ("[bc].png", True, ["cats/b.png", "cats/old/c.png"]),
        ("*", False, ["a.png"]),
    ],
)
def test_a_pattern_takes_the_images_that_match(folder: Path, pattern: str, recursive: bool, names: list[str]) -> None:
    image(folder / "cats" / "b.png")
    image(folder / "cats" / "old" / "c.png")
    (folder / "output.jsonl").write_text("{}")
    if not names:
        with pytest.raises(UserError, match="no picture"):
            find(folder, recursive=recursive, pattern=pattern)
        return
    assert find(folder, recursive=recursive, pattern=pattern).names == names


@pytest.mark.parametrize("pattern", ["/abs/*.png", "../*.png", ".", "/"])
def test_a_pattern_that_leads_out_of_the_folder_is_a_sentence(folder: Path, pattern: str) -> None:
    with pytest.raises(UserError, match="names nothing in the folder"):
        find(folder, pattern=pattern)


def test_a_name_that_is_no_utf8_is_told_in_letters_and_found_again(folder: Path) -> None:
    """Case name-that-is-no-utf8."""
    odd = os.fsencode(folder) + b"/caf\xe9.png"
    (folder / "a.png").rename(os.fsdecode(odd))
    (name,) = find(folder).names
    assert name == r"caf\xe9.png"
    assert folder_listing.locate(folder, name).read_bytes() == Path(os.fsdecode(odd)).read_bytes()
    image(folder / r"caf\xe9.png")
    assert find(folder).ignored == {folder_listing.SAME_NAME: 1}


def test_what_is_beyond_the_limit_is_counted(folder: Path) -> None:
    image(folder / "b.png")
    assert str(find(folder, limit=1)) == "1 image taken; passed by: 1 beyond --limit"


def test_the_jobs_own_files_are_no_images_whatever_they_are_called(folder: Path) -> None:
    listing = (
        folder_listing.find_images(
            folder, recursive=False, pattern="*", limit=None, own_files=[(folder / "a.png").resolve()]
        )
        if image(folder / "b.png")
        else None
    )
    assert listing
    assert listing.names == ["b.png"]
