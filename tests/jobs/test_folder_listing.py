"""The listing of a folder: images are found, and everything else is counted."""

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
def test_an_image_is_recognised_by_its_extension_or_its_first_bytes(folder: Path, name: str) -> None:
    """Case endings-of-pictures: names without a known extension were left out silently."""
    image(folder / name)
    assert find(folder).names == ["a.png", name]


@pytest.mark.parametrize("name", ["b.txt", "b.json", "notes", "b.pdf"])
def test_other_files_are_ignored_and_counted(folder: Path, name: str) -> None:
    (folder / name).write_text("words")
    assert str(find(folder)) == "1 image found; ignored: 1 other files"


@pytest.mark.parametrize("parent", [".ipynb_checkpoints", ".git", "__MACOSX", "@eaDir", "sub/.hidden"])
def test_hidden_and_system_folders_are_ignored_at_any_depth(folder: Path, parent: str) -> None:
    """Case hidden-folder: an image in a hidden folder was captioned."""
    image(folder / parent / "copy.png")
    listing = find(folder)
    assert listing.names == ["a.png"]
    assert listing.ignored == {folder_listing.HIDDEN: 1}


def test_a_subfolder_is_counted_unless_recursive(folder: Path) -> None:
    image(folder / "cats" / "b.png")
    assert "1 subfolders (--recursive looks into them)" in str(find(folder, recursive=False))
    assert find(folder).names == ["a.png", "cats/b.png"]


def test_a_linked_folder_is_followed_once_under_the_name_of_the_link(folder: Path, tmp_path: Path) -> None:
    image(tmp_path / "elsewhere" / "b.png")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "a_second").symlink_to(tmp_path / "elsewhere")
    (folder / "up").symlink_to(folder)
    listing = find(folder)
    assert listing.names == ["a.png", "a_second/b.png"]
    assert listing.ignored == {folder_listing.LINKED_TWICE: 2}


def test_a_folder_is_visited_before_a_link_to_it(folder: Path) -> None:
    image(folder / "z" / "b.png")
    (folder / "a_link").symlink_to(folder / "z")
    assert find(folder).names == ["a.png", "z/b.png"]


def test_broken_links_and_pipes_are_counted_and_not_opened(folder: Path) -> None:
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
def test_a_pattern_selects_matching_images(folder: Path, pattern: str, recursive: bool, names: list[str]) -> None:
    image(folder / "cats" / "b.png")
    image(folder / "cats" / "old" / "c.png")
    (folder / "output.jsonl").write_text("{}")
    if not names:
        with pytest.raises(UserError, match="no image"):
            find(folder, recursive=recursive, pattern=pattern)
        return
    assert find(folder, recursive=recursive, pattern=pattern).names == names


@pytest.mark.parametrize("pattern", ["/abs/*.png", "../*.png", ".", "/"])
def test_a_pattern_that_leads_out_of_the_folder_is_an_error(folder: Path, pattern: str) -> None:
    with pytest.raises(UserError, match="must be a relative pattern"):
        find(folder, pattern=pattern)


def test_a_name_that_is_not_utf8_is_escaped_and_located_again(folder: Path) -> None:
    """Case name-that-is-no-utf8."""
    raw = os.fsencode(folder) + b"/caf\xe9.png"
    (folder / "a.png").rename(os.fsdecode(raw))
    (name,) = find(folder).names
    assert name == r"caf\xe9.png"
    assert folder_listing.locate(folder, name).read_bytes() == Path(os.fsdecode(raw)).read_bytes()
    image(folder / r"caf\xe9.png")
    assert find(folder).ignored == {folder_listing.SAME_NAME: 1}


def test_images_beyond_the_limit_are_counted(folder: Path) -> None:
    image(folder / "b.png")
    assert str(find(folder, limit=1)) == "1 image found; ignored: 1 beyond --limit"


def test_the_files_of_the_job_are_not_images_whatever_their_names(folder: Path) -> None:
    image(folder / "b.png")
    own_files = [(folder / "a.png").resolve()]
    listing = folder_listing.find_images(folder, recursive=False, pattern="*", limit=None, own_files=own_files)
    assert listing.names == ["b.png"]
