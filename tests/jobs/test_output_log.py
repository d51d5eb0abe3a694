"""The output log: what is in it stays in it, however the job ends."""

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


def read_rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "lines.jsonl"


def test_a_second_job_on_the_same_output_is_refused(output: Path) -> None:
    with OutputLog(output), pytest.raises(UserError, match=r"Another job writes to lines\.jsonl"):
        OutputLog(output).__enter__()
    with OutputLog(output):
        pass


def test_records_survive_a_power_failure_during_a_job(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "SYNC_SECONDS", 0.0)
    disk, synced = LossyDisk(), threading.Event()
    sync = disk.sync

    def sync_and_signal(file: io.FileIO) -> None:
        sync(file)
        synced.set()

    monkeypatch.setattr(disk, "sync", sync_and_signal)
    with OutputLog(output, disk=disk) as output_log:
        output_log.append(numbered(5))
        assert synced.wait(10)
        monkeypatch.setattr(log_file, "SYNC_SECONDS", 1_000.0)
        output_log.append(numbered(7)[5:])
        disk.lose_power()
        assert [row["file"] for row in read_rows(output)][:5] == [record.file for record in numbered(5)]


def test_a_finished_job_loses_nothing_at_a_power_failure(output: Path) -> None:
    disk = LossyDisk()
    with OutputLog(output, disk=disk) as output_log:
        output_log.append(numbered(9))
    disk.lose_power()
    assert len(read_rows(output)) == 9


def test_a_rewritten_file_is_never_empty_after_a_power_failure(output: Path) -> None:
    """An unsynced draft that was renamed over the file left an empty file on some disks."""
    disk = LossyDisk()
    with OutputLog(output, disk=disk) as output_log:
        output_log.append(numbered(4))
        output_log.append([replace(numbered(1)[0], digest="another", caption="three")])
        output_log.remove_superseded()
    disk.lose_power()
    assert [row["caption"] for row in read_rows(output)] == ["three", "two", "two", "two"]


def test_the_fake_disk_loses_what_was_not_synced(output: Path) -> None:
    disk = LossyDisk()
    with OutputLog(output, disk=disk) as output_log:
        output_log.sync()
        with output.open("ab") as file:
            file.write(RECORD.to_json_line())
        disk.lose_power()
    assert read_rows(output) == []


def test_a_full_disk_is_an_error_and_leaves_complete_lines_only(output: Path) -> None:
    with OutputLog(output) as output_log:
        output_log.append([RECORD])
        with (
            limit_file_size(output.stat().st_size + 20),
            pytest.raises(UserError, match=r"lines\.jsonl has reached the largest file size"),
        ):
            output_log.append([RECORD])
    assert output.read_bytes() == RECORD.to_json_line()


def test_a_full_disk_keeps_superseded_records(output: Path) -> None:
    """The rewrite at the end of a job left a traceback and a draft."""
    with OutputLog(output) as output_log:
        output_log.append([*numbered(3), replace(numbered(1)[0], digest="another", caption="three")])
        with limit_file_size(100):
            output_log.remove_superseded()
        assert "largest file size" in output_log.superseded_error
    assert len(read_rows(output)) == 4
    assert sorted(path.name for path in output.parent.iterdir()) == [".lines.jsonl.lock", "lines.jsonl"]


@pytest.mark.parametrize(
    "tail", [b'{"fil', b'{"file": "b.png", "digest": "x', b"\0" * 300, b'{"file": "b"' + b"\0" * 90]
)
def test_a_partial_line_of_a_crash_is_removed(output: Path, tail: bytes) -> None:
    output.write_bytes(RECORD.to_json_line() + tail)
    with OutputLog(output) as output_log:
        output_log.append([replace(RECORD, file="b.png")])
    assert [row["file"] for row in read_rows(output)] == ["a.png", "b.png"]


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
def test_another_file_is_refused_and_not_changed(output: Path, content: bytes) -> None:
    output.write_bytes(content)
    with pytest.raises(UserError, match=r"is not an output|saved as UTF-16"), OutputLog(output):
        pass
    assert output.read_bytes() == content


def test_lines_that_are_no_records_are_kept(output: Path) -> None:
    note = b'{"note": "checked until here"}\n'
    output.write_bytes(RECORD.to_json_line() + note + replace(RECORD, digest="later").to_json_line())
    with OutputLog(output) as output_log:
        output_log.remove_superseded()
    assert output.read_bytes() == replace(RECORD, digest="later").to_json_line() + note
    with OutputLog(output) as output_log:
        output_log.start_over()
        output_log.append([replace(RECORD, caption="new")])
    assert note in output.read_bytes()


@pytest.mark.parametrize(
    "change", [lambda line: b"\xef\xbb\xbf" + line, lambda line: line.replace(b"\n", b"\r\n"), bytes.strip]
)
def test_a_file_that_an_editor_saved_is_read(output: Path, change: Any) -> None:
    output.write_bytes(change(replace(RECORD, caption="by hand").to_json_line()))
    with OutputLog(output) as output_log:
        assert [record.caption for record in output_log.records()] == ["by hand"]
        output_log.append([replace(RECORD, file="b.png")])
    with OutputLog(output) as output_log:
        assert [record.file for record in output_log.records()] == ["a.png", "b.png"]


def test_an_added_key_is_kept_until_the_image_is_captioned_again(output: Path) -> None:
    output.write_bytes(
        RECORD.to_json_line().replace(b'"tokens"', b'"rating": 5, "tokens"')
        + replace(RECORD, file="b.png").to_json_line()
        + replace(RECORD, file="b.png", digest="later").to_json_line()
    )
    with OutputLog(output) as output_log:
        output_log.remove_superseded()
    assert [row.get("rating") for row in read_rows(output)] == [5, None]


def test_all_captions_that_were_appended_for_an_image_are_kept(output: Path) -> None:
    """A plain run after `--existing append` kept the last of them only."""
    appended = [RECORD, replace(RECORD, caption="second"), replace(RECORD, caption="third")]
    other = [replace(RECORD, file="b.png", digest="old"), replace(RECORD, file="b.png", digest="new")]
    output.write_bytes(b"".join(record.to_json_line() for record in [*appended, *other]))
    with OutputLog(output) as output_log:
        output_log.remove_superseded()
    assert [row["caption"] for row in read_rows(output)] == ["two", "second", "third", "two"]


def test_a_corrected_caption_is_kept_by_a_job_that_starts_over(output: Path) -> None:
    output.write_bytes(
        replace(RECORD, caption="mine", edited="0123").to_json_line() + replace(RECORD, file="b.png").to_json_line()
    )
    with OutputLog(output) as output_log:
        output_log.start_over()
        assert output_log.entries == {("a.png", RECORD.key())}
        output_log.append([replace(RECORD, file="b.png", caption="new")])
    assert [row["caption"] for row in read_rows(output)] == ["mine", "new"]
    with OutputLog(output, overwrite_edited=True) as output_log:
        output_log.start_over()
        assert not output_log.entries


def test_a_correction_keeps_other_keys_of_the_line(output: Path) -> None:
    output.write_bytes(RECORD.to_json_line().replace(b'"tokens"', b'"rating": 5, "tokens"'))
    with OutputLog(output) as output_log:
        assert output_log.replace(lambda record: replace(record, caption="mine")) == 1
    assert [(row["caption"], row["rating"]) for row in read_rows(output)] == [("mine", 5)]


def test_old_captions_are_kept_until_the_first_new_one(output: Path) -> None:
    """`--existing overwrite` emptied the output before anything had succeeded."""
    output.write_bytes(RECORD.to_json_line())
    with OutputLog(output) as output_log:
        output_log.start_over()
        output_log.append([replace(FAILED, file="b.png")])
        assert output.read_bytes() == RECORD.to_json_line()
    assert output.read_bytes() == RECORD.to_json_line()
    with OutputLog(output) as output_log:
        output_log.start_over()
        assert not output_log.keep_previous(("c.png", FAILED.key()))
        output_log.append([replace(RECORD, file="c.png")])
    assert [row["file"] for row in read_rows(output)] == ["c.png"]


def test_an_error_of_an_unreadable_file_replaces_no_caption(output: Path) -> None:
    output.write_bytes(RECORD.to_json_line() + FAILED.to_json_line())
    with OutputLog(output) as output_log:
        output_log.remove_superseded()
    assert [row["caption"] for row in read_rows(output)] == ["two"]


def test_a_linked_output_stays_a_link(output: Path) -> None:
    target = output.with_name("target.jsonl")
    target.write_bytes(RECORD.to_json_line() + replace(RECORD, digest="later").to_json_line())
    output.symlink_to(target)
    with OutputLog(output) as output_log:
        output_log.remove_superseded()
    assert output.is_symlink()
    assert len(read_rows(target)) == 1


@pytest.mark.parametrize(
    ("errno", "message"),
    [
        ("ENOLCK", "cannot lock files"),
        ("EROFS", "read-only disk"),
        ("EACCES", "Check the permissions"),
        ("ENOSPC", "is full"),
    ],
)
def test_an_output_that_cannot_be_written_is_an_error_with_the_reason(
    output: Path, monkeypatch: pytest.MonkeyPatch, errno: str, message: str
) -> None:
    import errno as numbers

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(getattr(numbers, errno), errno)

    monkeypatch.setattr("blip_space.jobs.log_file.FileLock.acquire", refuse)
    with pytest.raises(UserError, match=message), OutputLog(output):
        pass


def test_a_name_of_full_length_is_written_and_a_longer_one_is_an_error(tmp_path: Path) -> None:
    longest = tmp_path / ("x" * 242 + ".jsonl")
    with OutputLog(longest) as output_log:
        output_log.append([RECORD, replace(RECORD, digest="later")])
        output_log.remove_superseded()
    assert len(read_rows(longest)) == 1
    with pytest.raises(UserError, match="too long for this disk"), OutputLog(tmp_path / ("y" * 300)):
        pass


def test_permissions_of_a_rewritten_file_are_kept(output: Path) -> None:
    output.write_bytes(b"old")
    output.chmod(0o640)
    Disk().write_atomically(output, [b"new"])
    assert (output.read_bytes(), output.stat().st_mode & 0o777) == (b"new", 0o640)
    assert os.listdir(output.parent) == ["lines.jsonl"]  # noqa: PTH208
