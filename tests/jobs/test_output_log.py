"""Laws of the file of lines: what is in it stays in it, whatever ends the job."""

from __future__ import annotations

import io
import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blip_space.errors import UserError
from blip_space.jobs import log_file
from blip_space.jobs.durable_files import Disk
from blip_space.jobs.output_log import OutputLog
from blip_space.jobs.records import CaptionRecord
from tests.jobs.folder_fixtures import limit_file_size
from tests.jobs.lossy_disk import LossyDisk

RECORD = CaptionRecord("a.png", "d", "tiny", "fp32", "en", "", "two", 1, 0.1, None, fingerprint="f")
FAILED = replace(RECORD, digest=None, caption=None, error="The file cannot be read.")


def numbered(count: int) -> list[CaptionRecord]:
    return [replace(RECORD, file=f"{number:03}.png", digest=str(number)) for number in range(count)]


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "lines.jsonl"


def test_two_jobs_on_one_output_refuse_each_other(output: Path) -> None:
    with OutputLog(output), pytest.raises(UserError, match=r"Another job writes to lines\.jsonl"):
        OutputLog(output).__enter__()
    with OutputLog(output):
        pass


def test_lines_survive_a_loss_of_power_in_the_middle_of_a_job(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "SYNC_SECONDS", 0.0)
    disk, synced = LossyDisk(), threading.Event()
    sync = disk.sync

    def noted(file: io.FileIO) -> None:
        sync(file)
        synced.set()

    monkeypatch.setattr(disk, "sync", noted)
    with OutputLog(output, disk=disk) as ledger:
        ledger.append(numbered(5))
        assert synced.wait(10)
        monkeypatch.setattr(log_file, "SYNC_SECONDS", 1_000.0)
        ledger.append(numbered(7)[5:])
        disk.lose_power()
        assert [row["file"] for row in rows(output)][:5] == [record.file for record in numbered(5)]


def test_a_job_that_ended_loses_nothing_to_a_loss_of_power(output: Path) -> None:
    disk = LossyDisk()
    with OutputLog(output, disk=disk) as ledger:
        ledger.append(numbered(9))
    disk.lose_power()
    assert len(rows(output)) == 9


def test_a_file_that_is_written_again_is_never_empty_after_a_loss_of_power(output: Path) -> None:
    """An unsynced draft that was renamed over the file left nothing of it on some disks."""
    disk = LossyDisk()
    with OutputLog(output, disk=disk) as ledger:
        ledger.append(numbered(4))
        ledger.append([replace(numbered(1)[0], digest="another", caption="three")])
        ledger.remove_superseded()
    disk.lose_power()
    assert [row["caption"] for row in rows(output)] == ["three", "two", "two", "two"]


def test_what_was_not_synced_is_lost_by_the_disk_that_the_tests_above_rely_on(output: Path) -> None:
    disk = LossyDisk()
    with OutputLog(output, disk=disk) as ledger:
        ledger.sync()
        with output.open("ab") as file:
            file.write(RECORD.to_json_line())
        disk.lose_power()
    assert rows(output) == []


def test_a_full_disk_is_a_sentence_and_leaves_whole_lines_only(output: Path) -> None:
    with OutputLog(output) as ledger:
        ledger.append([RECORD])
        with (
            limit_file_size(output.stat().st_size + 20),
            pytest.raises(UserError, match=r"takes no larger file than lines\.jsonl"),
        ):
            ledger.append([RECORD])
    assert output.read_bytes() == RECORD.to_json_line()


def test_a_full_disk_leaves_what_was_superseded_in_its_place(output: Path) -> None:
    """The ledger is written again at the end of a job, which left a traceback and a draft."""
    with OutputLog(output) as ledger:
        ledger.append([*numbered(3), replace(numbered(1)[0], digest="another", caption="three")])
        with limit_file_size(100):
            ledger.remove_superseded()
        assert "takes no larger file" in ledger.superseded_error
    assert len(rows(output)) == 4
    assert sorted(path.name for path in output.parent.iterdir()) == [".lines.jsonl.lock", "lines.jsonl"]


@pytest.mark.parametrize(
    "tail", [b'{"fil', b'{"file": "b.png", "digest": "x', b"\0" * 300, b'{"file": "b"' + b"\0" * 90]
)
def test_what_a_crash_left_of_a_line_is_taken_away(output: Path, tail: bytes) -> None:
    output.write_bytes(RECORD.to_json_line() + tail)
    with OutputLog(output) as ledger:
        ledger.append([replace(RECORD, file="b.png")])
    assert [row["file"] for row in rows(output)] == ["a.png", "b.png"]


@pytest.mark.parametrize(
    "content",
    [
        "my notes".encode("utf-16"),
        RECORD.to_json_line().decode().encode("utf-16"),
        b"my notes",
        b"my notes\n",
        b'[{"file": "a.png"}]\n',
        b'{"name": "x"}\n{"name": "y"}',
    ],
)
def test_a_file_of_somebodys_is_refused_as_it_is(output: Path, content: bytes) -> None:
    output.write_bytes(content)
    with pytest.raises(UserError, match=r"holds something else|saved as UTF-16"), OutputLog(output):
        pass
    assert output.read_bytes() == content


def test_lines_that_are_no_records_stay_where_a_person_put_them(output: Path) -> None:
    note = b'{"note": "checked until here"}\n'
    output.write_bytes(RECORD.to_json_line() + note + replace(RECORD, digest="later").to_json_line())
    with OutputLog(output) as ledger:
        ledger.remove_superseded()
    assert output.read_bytes() == replace(RECORD, digest="later").to_json_line() + note
    with OutputLog(output) as ledger:
        ledger.start_over()
        ledger.append([replace(RECORD, caption="new")])
    assert note in output.read_bytes()


@pytest.mark.parametrize(
    "change", [lambda line: b"\xef\xbb\xbf" + line, lambda line: line.replace(b"\n", b"\r\n"), bytes.strip]
)
def test_what_an_editor_saved_is_read(output: Path, change: Any) -> None:
    output.write_bytes(change(replace(RECORD, caption="by hand").to_json_line()))
    with OutputLog(output) as ledger:
        assert [record.caption for record in ledger.records()] == ["by hand"]
        ledger.append([replace(RECORD, file="b.png")])
    with OutputLog(output) as ledger:
        assert [record.file for record in ledger.records()] == ["a.png", "b.png"]


def test_a_key_that_a_person_added_stays_until_the_image_is_done_again(output: Path) -> None:
    output.write_bytes(
        RECORD.to_json_line().replace(b'"tokens"', b'"rating": 5, "tokens"')
        + replace(RECORD, file="b.png").to_json_line()
        + replace(RECORD, file="b.png", digest="later").to_json_line()
    )
    with OutputLog(output) as ledger:
        ledger.remove_superseded()
    assert [row.get("rating") for row in rows(output)] == [5, None]


def test_captions_that_were_appended_for_the_same_image_all_stay(output: Path) -> None:
    """A plain run after `--existing append` left the last of them only."""
    appended = [RECORD, replace(RECORD, caption="second"), replace(RECORD, caption="third")]
    other = [replace(RECORD, file="b.png", digest="old"), replace(RECORD, file="b.png", digest="new")]
    output.write_bytes(b"".join(record.to_json_line() for record in [*appended, *other]))
    with OutputLog(output) as ledger:
        ledger.remove_superseded()
    assert [row["caption"] for row in rows(output)] == ["two", "second", "third", "two"]


def test_a_corrected_caption_outlives_a_job_that_begins_again(output: Path) -> None:
    output.write_bytes(
        replace(RECORD, caption="mine", edited="0123").to_json_line() + replace(RECORD, file="b.png").to_json_line()
    )
    with OutputLog(output) as ledger:
        ledger.start_over()
        assert ledger.entries == {("a.png", RECORD.key())}
        ledger.append([replace(RECORD, file="b.png", caption="new")])
    assert [row["caption"] for row in rows(output)] == ["mine", "new"]
    with OutputLog(output, overwrite_edited=True) as ledger:
        ledger.start_over()
        assert not ledger.entries


def test_a_correction_leaves_what_else_is_in_the_line(output: Path) -> None:
    output.write_bytes(RECORD.to_json_line().replace(b'"tokens"', b'"rating": 5, "tokens"'))
    with OutputLog(output) as ledger:
        assert ledger.replace(lambda record: replace(record, caption="mine")) == 1
    assert [(row["caption"], row["rating"]) for row in rows(output)] == [("mine", 5)]


def test_old_captions_stay_until_the_first_new_one_is_there(output: Path) -> None:
    """`--existing overwrite` emptied the output before anything was known to work."""
    output.write_bytes(RECORD.to_json_line())
    with OutputLog(output) as ledger:
        ledger.start_over()
        ledger.append([replace(FAILED, file="b.png")])
        assert output.read_bytes() == RECORD.to_json_line()
    assert output.read_bytes() == RECORD.to_json_line()
    with OutputLog(output) as ledger:
        ledger.start_over()
        assert not ledger.keep_previous(("c.png", FAILED.key()))
        ledger.append([replace(RECORD, file="c.png")])
    assert [row["file"] for row in rows(output)] == ["c.png"]


def test_in_settling_an_unreadable_file_displaces_no_caption(output: Path) -> None:
    output.write_bytes(RECORD.to_json_line() + FAILED.to_json_line())
    with OutputLog(output) as ledger:
        ledger.remove_superseded()
    assert [row["caption"] for row in rows(output)] == ["two"]


def test_a_linked_output_stays_a_link(output: Path) -> None:
    kept = output.with_name("kept.jsonl")
    kept.write_bytes(RECORD.to_json_line() + replace(RECORD, digest="later").to_json_line())
    output.symlink_to(kept)
    with OutputLog(output) as ledger:
        ledger.remove_superseded()
    assert output.is_symlink()
    assert len(rows(kept)) == 1


@pytest.mark.parametrize(
    ("errno", "sentence"),
    [
        ("ENOLCK", "locks no files"),
        ("EROFS", "is read-only"),
        ("EACCES", "Check the permissions"),
        ("ENOSPC", "is full"),
    ],
)
def test_what_keeps_the_output_from_being_written_is_told(
    output: Path, monkeypatch: pytest.MonkeyPatch, errno: str, sentence: str
) -> None:
    import errno as numbers

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(getattr(numbers, errno), errno)

    monkeypatch.setattr("blip_space.jobs.log_file.FileLock.acquire", refuse)
    with pytest.raises(UserError, match=sentence), OutputLog(output):
        pass


def test_a_name_of_full_length_is_written_and_a_longer_one_is_told(tmp_path: Path) -> None:
    longest = tmp_path / ("x" * 242 + ".jsonl")
    with OutputLog(longest) as ledger:
        ledger.append([RECORD, replace(RECORD, digest="later")])
        ledger.remove_superseded()
    assert len(rows(longest)) == 1
    with pytest.raises(UserError, match="too long for this disk"), OutputLog(tmp_path / ("y" * 300)):
        pass


def test_permissions_of_a_file_that_is_written_again_stay(output: Path) -> None:
    output.write_bytes(b"old")
    output.chmod(0o640)
    Disk().write_atomically(output, [b"new"])
    assert (output.read_bytes(), output.stat().st_mode & 0o777) == (b"new", 0o640)
    assert os.listdir(output.parent) == ["lines.jsonl"]  # noqa: PTH208
