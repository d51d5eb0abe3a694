"""Laws of text files beside images: ours are kept up to date, and a person's are never touched."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from blip_space import images
from blip_space.errors import UserError
from blip_space.jobs.outputs.corrections import Corrections
from blip_space.jobs.outputs.manifest import FINISHED, NAME, Manifests
from blip_space.jobs.outputs.text_files import TextFiles
from blip_space.jobs.outputs.text_format import TextFormat, parse_text_format, text_names
from blip_space.jobs.records import CaptionRecord
from tests.jobs.folder_fixtures import draw, limit_file_size

RECORD = CaptionRecord("1.png", "d", "tiny", "fp32", "en", "", "octopus", 1, 0.1, None)


PLAIN = TextFormat()


def write(folder: Path, *captions: str, form: TextFormat = PLAIN, over_edited: bool = False) -> list[str]:
    """The captions of 1.png, 2.png, …; which texts were left as they are."""
    records = [
        replace(RECORD, file=f"{number}.png", digest=str(number), caption=text)
        for number, text in enumerate(captions, start=1)
    ]
    outcome = TextFiles(Manifests(folder), form).write(records, overwrite_edited=over_edited)
    assert not outcome.failed
    return outcome.kept


def corrected(folder: Path, digest: str = "1") -> str | None:
    """The caption of 1.png as a person corrected it."""
    record = Corrections(Manifests(folder), ["1.png"]).correct(replace(RECORD, digest=digest))
    return record.caption if record else None


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
    assert write(tmp_path, "squid", "dog", form=TextFormat(prefix="sks, ", suffix=".")) == []
    assert there(tmp_path) == {"1.txt": "sks, squid.", "2.txt": "sks, dog."}


@pytest.mark.parametrize("content", [b"mine", "\ufeffmine\r\n".encode(), "mine\n".encode("utf-16")])
def test_what_a_person_edited_stays_and_is_known(tmp_path: Path, content: bytes) -> None:
    """Case text-corrected-by-hand."""
    write(tmp_path, "octopus", "dog")
    (tmp_path / "1.txt").write_bytes(content)
    assert write(tmp_path, "squid", "cat") == ["1.txt"]
    assert (tmp_path / "1.txt").read_bytes() == content
    assert (tmp_path / "2.txt").read_text() == "cat"
    assert corrected(tmp_path) == "mine"
    assert corrected(tmp_path, "of another image that has the name now") is None


def test_an_edit_that_says_what_we_wrote_elsewhere_is_still_an_edit(tmp_path: Path) -> None:
    write(tmp_path, "octopus", "dog")
    (tmp_path / "1.txt").write_text("dog")
    assert write(tmp_path, "octopus", "dog") == ["1.txt"]


def test_what_stands_around_a_caption_is_no_part_of_its_correction(tmp_path: Path) -> None:
    write(tmp_path, "octopus", form=TextFormat(prefix="sks, ", suffix=", flat"))
    (tmp_path / "1.txt").write_text("sks, red octopus, flat\n")
    assert corrected(tmp_path) == "red octopus"


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
    """What is finished was synced, so an empty text is a person's from then on."""
    write(tmp_path, "octopus")
    (tmp_path / "1.txt").write_bytes(b"")
    assert write(tmp_path, "octopus") == ["1.txt"]
    listed = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(listed.replace(FINISHED, b""))
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
    texts = TextFiles(Manifests(tmp_path), TextFormat())
    texts.write([replace(RECORD, file="a.jpg")], overwrite_edited=False)
    texts.write([replace(RECORD, file="a.jpg"), replace(RECORD, file="a.heic", caption="dog")], overwrite_edited=False)
    assert there(tmp_path) == {"a.heic.txt": "dog", "a.jpg.txt": "octopus"}


def test_what_has_no_place_is_known_before_and_survived_after(tmp_path: Path) -> None:
    """Case text-file-in-the-way."""
    (tmp_path / "1.txt").mkdir()
    texts = TextFiles(Manifests(tmp_path), TextFormat(".caption"))
    assert texts.find_blocked(["1.png"]) == {}
    assert "name is too long" in texts.find_blocked(["x" * 250 + ".png"])["x" * 250 + ".png"]
    texts = TextFiles(Manifests(tmp_path), TextFormat())
    assert "1.txt is a folder" in texts.find_blocked(["1.png", "2.png"])["1.png"]
    outcome = texts.write([RECORD, replace(RECORD, file="2.png")], overwrite_edited=True)
    assert [file for file, _ in outcome.failed] == ["1.png"]
    assert (tmp_path / "2.txt").read_text() == "octopus"
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "1.txt", "2.txt"]


def test_a_text_that_cannot_be_read_stays_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken for one that is not there, and a person's words were written over."""
    write(tmp_path, "octopus")
    (tmp_path / "1.txt").write_text("MY LONG WORK")
    read = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.name == "1.txt":
            raise OSError(errno.EIO, "Input/output error")
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        records = [replace(RECORD, digest="1", caption="squid")]
        outcome = TextFiles(Manifests(tmp_path), TextFormat()).write(records, overwrite_edited=False)
        assert [file for file, _ in outcome.failed] == ["1.png"]
        (note,) = Corrections(Manifests(tmp_path), ["1.png"]).notes
        assert "1.txt cannot be read" in note
    assert (tmp_path / "1.txt").read_text() == "MY LONG WORK"


def test_an_edit_that_says_what_we_wrote_before_is_still_an_edit(tmp_path: Path) -> None:
    write(tmp_path, "octopus")
    write(tmp_path, "squid")
    (tmp_path / "1.txt").write_text("octopus")
    assert write(tmp_path, "squid") == ["1.txt"]


def test_a_line_end_that_an_editor_adds_is_no_edit(tmp_path: Path) -> None:
    write(tmp_path, "octopus")
    (tmp_path / "1.txt").write_bytes(b"octopus\r\n")
    assert write(tmp_path, "squid") == []
    assert there(tmp_path) == {"1.txt": "squid"}


def test_half_a_line_in_the_list_costs_no_later_one(tmp_path: Path) -> None:
    write(tmp_path, "octopus")
    with (tmp_path / NAME).open("a") as file:
        file.write('{"file": "2.tx')
    write(tmp_path, "octopus", "dog")
    assert write(tmp_path, "octopus", "cat") == []


def test_a_list_that_finds_no_room_leaves_no_half_line(tmp_path: Path) -> None:
    write(tmp_path, "octopus")
    with limit_file_size((tmp_path / NAME).stat().st_size + 40):
        records = [replace(RECORD, file="2.png", digest="2", caption="dog")]
        assert TextFiles(Manifests(tmp_path), TextFormat()).write(records, overwrite_edited=False).failed
    assert (tmp_path / NAME).read_bytes().endswith(b"\n")


@pytest.mark.parametrize(
    ("around", "saved", "caption"),
    [
        (("A", ""), "Apple on a tree", "Apple on a tree"),
        (("ohwx, ", ""), "ohwx,", None),
        (("\nsks ", ""), "\nsks red", "red"),
        (("", " flat"), "a flat", "a"),
        (("", ""), "caf\u00e9", "caf\u00e9"),
    ],
)
def test_only_what_stood_around_a_caption_is_taken_off(
    tmp_path: Path, around: tuple[str, str], saved: str, caption: str | None
) -> None:
    write(tmp_path, "octopus", form=TextFormat(prefix=around[0], suffix=around[1]))
    (tmp_path / "1.txt").write_text(saved, "utf-8")
    assert corrected(tmp_path) == caption


@pytest.mark.parametrize("content", [b"caf\xe9", "red".encode("utf-16-le")])
def test_an_edit_that_is_no_text_stays_and_is_told(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, "octopus")
    (tmp_path / "1.txt").write_bytes(content)
    assert write(tmp_path, "squid") == ["1.txt"]
    assert corrected(tmp_path) is None
    (note,) = Corrections(Manifests(tmp_path), ["1.png"]).notes
    assert "save it as UTF-8" in note


def test_of_two_texts_of_an_image_the_one_that_was_edited_last_counts(tmp_path: Path) -> None:
    write(tmp_path, "octopus")
    write(tmp_path, "octopus", form=TextFormat(".caption"))
    for seconds, (name, text) in enumerate((("1.caption", "second"), ("1.txt", "third"))):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (seconds, seconds))
    assert corrected(tmp_path) == "third"
    os.utime(tmp_path / "1.caption", (9, 9))
    assert corrected(tmp_path) == "second"


def test_a_text_that_was_renamed_with_its_image_is_still_ours(tmp_path: Path) -> None:
    write(tmp_path, "octopus")
    (tmp_path / "1.txt").rename(tmp_path / "x.txt")
    draw(tmp_path / "x.png", 1)
    digest = images.digest((tmp_path / "x.png").read_bytes())
    moved = replace(RECORD, file="x.png", digest="1", caption="squid")
    outcome = TextFiles(Manifests(tmp_path), TextFormat()).write([moved], overwrite_edited=False)
    assert (outcome.kept, there(tmp_path)) == ([], {"x.txt": "squid"})
    assert TextFiles(Manifests(tmp_path), TextFormat()).find_user_written(["x.png"]) == set()
    assert digest


def test_beside_an_image_without_a_caption_no_older_text_of_ours_stays(tmp_path: Path) -> None:
    write(tmp_path, "octopus", "dog")
    failed = replace(RECORD, caption=None, error="It is broken.")
    TextFiles(Manifests(tmp_path), TextFormat()).write([failed], overwrite_edited=False)
    assert there(tmp_path) == {"2.txt": "dog"}


def test_an_image_of_another_job_keeps_the_text_that_both_would_have(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png"):
        (tmp_path / name).touch()
        texts = TextFiles(Manifests(tmp_path), TextFormat())
        texts.write([replace(RECORD, file=name, caption=name)], overwrite_edited=False)
    assert there(tmp_path) == {"a.png.txt": "a.png", "a.txt": "a.jpg"}


@pytest.mark.parametrize("ending", [".png", "JPG", ".", "", "a/b", ".heic"])
def test_an_ending_that_is_none_of_a_text_is_refused(ending: str) -> None:
    with pytest.raises(UserError, match="no ending of a text file"):
        parse_text_format(ending, "", "")
    assert parse_text_format("caption", "", "").extension == ".caption"
