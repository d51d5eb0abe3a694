"""Laws of text files beside images: ours are kept up to date, and a person's are never touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from blip_space.errors import UserError
from blip_space.inference.folder.record import Record
from blip_space.inference.folder.texts import TextForm, Texts, edited_captions, read_form, text_names
from blip_space.inference.folder.written import NAME, WrittenFiles

RECORD = Record("1.png", "d", "tiny", "fp32", "en", "", "octopus", 1, 0.1, None)


PLAIN = TextForm()


def write(folder: Path, *captions: str, form: TextForm = PLAIN, over_edited: bool = False) -> list[str]:
    """The captions of 1.png, 2.png, …; which texts were left as they are."""
    records = [replace(RECORD, file=f"{number}.png", caption=text) for number, text in enumerate(captions, start=1)]
    outcome = Texts(folder, form, WrittenFiles(folder)).write(records, over_edited=over_edited)
    assert not outcome.failed
    return outcome.kept


def there(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.txt"))}


@pytest.mark.parametrize(
    ("files", "texts"),
    [
        (["a.png", "b.jpg"], ["a.txt", "b.txt"]),
        (["a.png", "a.jpg"], ["a.png.txt", "a.jpg.txt"]),
        (["a.png", "a.jpg", "a.png.webp"], ["a.png.txt", "a.jpg.txt", "a.png.webp.txt"]),
        (["x/a.png", "y/a.png"], ["x/a.txt", "y/a.txt"]),
        (["photo 1.5 m", "photo 1.jpg"], ["photo 1.5 m.txt", "photo 1.txt"]),
    ],
)
def test_two_images_never_share_one_text(files: list[str], texts: list[str]) -> None:
    assert list(text_names(files, ".txt").values()) == texts


def test_what_we_wrote_follows_its_caption_and_what_surrounds_it(tmp_path: Path) -> None:
    write(tmp_path, "octopus", "dog")
    assert write(tmp_path, "squid", "dog", form=TextForm(prefix="sks, ", suffix=".")) == []
    assert there(tmp_path) == {"1.txt": "sks, squid.", "2.txt": "sks, dog."}


@pytest.mark.parametrize("content", [b"mine", "\ufeffmine\r\n".encode(), "mine\n".encode("utf-16")])
def test_what_a_person_edited_stays_and_is_known(tmp_path: Path, content: bytes) -> None:
    """Case text-corrected-by-hand."""
    write(tmp_path, "octopus", "dog")
    (tmp_path / "1.txt").write_bytes(content)
    assert write(tmp_path, "squid", "cat") == ["1.txt"]
    assert (tmp_path / "1.txt").read_bytes() == content
    assert (tmp_path / "2.txt").read_text() == "cat"
    assert edited_captions(WrittenFiles(tmp_path)) == {("1.png", "en", ""): "mine"}


def test_an_edit_that_says_what_we_wrote_elsewhere_is_still_an_edit(tmp_path: Path) -> None:
    write(tmp_path, "octopus", "dog")
    (tmp_path / "1.txt").write_text("dog")
    assert write(tmp_path, "octopus", "dog") == ["1.txt"]


def test_what_stands_around_a_caption_is_no_part_of_its_correction(tmp_path: Path) -> None:
    write(tmp_path, "octopus", form=TextForm(prefix="sks, ", suffix=", flat"))
    (tmp_path / "1.txt").write_text("sks, red octopus, flat\n")
    assert edited_captions(WrittenFiles(tmp_path)) == {("1.png", "en", ""): "red octopus"}


def test_a_text_that_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("MY OWN WORK")
    assert write(tmp_path, "octopus") == ["1.txt"]
    assert there(tmp_path) == {"1.txt": "MY OWN WORK"}
    assert write(tmp_path, "octopus", over_edited=True) == []
    assert there(tmp_path) == {"1.txt": "octopus"}


def test_texts_of_a_version_that_kept_no_list_are_ours_where_they_say_what_we_would(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("octopus")
    write(tmp_path, "octopus")
    assert write(tmp_path, "squid") == []


def test_a_text_that_a_loss_of_power_left_empty_is_written_again(tmp_path: Path) -> None:
    write(tmp_path, "octopus")
    (tmp_path / "1.txt").write_bytes(b"")
    assert write(tmp_path, "octopus") == []
    assert there(tmp_path) == {"1.txt": "octopus"}


def test_the_list_of_what_is_ours_moves_with_the_folder(tmp_path: Path) -> None:
    (old := tmp_path / "old").mkdir()
    write(old, "octopus")
    new = old.rename(tmp_path / "new")
    (new / NAME).write_bytes((new / NAME).read_bytes() + b"not a line of ours\n[]\n")
    assert write(new, "squid") == []


def test_a_caption_stands_on_one_line_and_no_text_is_empty(tmp_path: Path) -> None:
    """kohya's scripts read the first line, and stop at an empty file."""
    write(tmp_path, "two\nlines", " \n")
    assert there(tmp_path) == {"1.txt": "two lines"}


def test_once_two_images_share_a_name_the_text_that_was_ones_gives_way(tmp_path: Path) -> None:
    texts = Texts(tmp_path, TextForm(), WrittenFiles(tmp_path))
    texts.write([replace(RECORD, file="a.jpg")], over_edited=False)
    texts.write([replace(RECORD, file="a.jpg"), replace(RECORD, file="a.heic", caption="dog")], over_edited=False)
    assert there(tmp_path) == {"a.heic.txt": "dog", "a.jpg.txt": "octopus"}


def test_what_has_no_place_is_known_before_and_survived_after(tmp_path: Path) -> None:
    """Case text-file-in-the-way."""
    (tmp_path / "1.txt").mkdir()
    texts = Texts(tmp_path, TextForm(".caption"), WrittenFiles(tmp_path))
    assert texts.blocked(["1.png"]) == {}
    assert "name is too long" in texts.blocked(["x" * 250 + ".png"])["x" * 250 + ".png"]
    texts = Texts(tmp_path, TextForm(), WrittenFiles(tmp_path))
    assert "1.txt is a folder" in texts.blocked(["1.png", "2.png"])["1.png"]
    outcome = texts.write([RECORD, replace(RECORD, file="2.png")], over_edited=True)
    assert [file for file, _ in outcome.failed] == ["1.png"]
    assert (tmp_path / "2.txt").read_text() == "octopus"
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "1.txt", "2.txt"]


@pytest.mark.parametrize("ending", [".png", "JPG", ".", "", "a/b", ".heic"])
def test_an_ending_that_is_none_of_a_text_is_refused(ending: str) -> None:
    with pytest.raises(UserError, match="no ending of a text file"):
        read_form(ending, "", "")
    assert read_form("caption", "", "").extension == ".caption"
