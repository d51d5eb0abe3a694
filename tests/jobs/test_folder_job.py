"""Every picture gets its line, once, whatever happened before."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blip_space import images
from blip_space.errors import ImageError
from blip_space.jobs import folder_listing
from blip_space.jobs.folder_captioner import Caption, PendingCaption
from blip_space.jobs.folder_job import FolderJob, FolderRun, JobProgress
from blip_space.jobs.output_log import OutputLog
from blip_space.jobs.records import CaptionRecord, CaptionTask
from blip_space.options import GenerationOptions
from tests.jobs.folder_fixtures import draw

STREAM = GenerationOptions(max_new_tokens=12)
CAPTION = CaptionTask("tiny", "fp32", "en", "", STREAM)
Load = Callable[[], Any]


def do(
    pictures: Path, load: Load, *tasks: CaptionTask, before: Callable[[FolderRun], None] = lambda _: None, **job: Any
) -> JobProgress:
    """Caption the folder into `lines.jsonl` beside it."""
    names = folder_listing.find_images(pictures, recursive=True, pattern=None, limit=None).names
    with OutputLog(pictures.parent / "lines.jsonl") as ledger:
        run = FolderRun(
            FolderJob(pictures, names, tasks or (CAPTION,), load, **job), ledger, on_progress=lambda _: None
        )
        before(run)
        return run.run()


def lines(pictures: Path) -> dict[tuple[str, str], Any]:
    rows = [json.loads(line) for line in (pictures.parent / "lines.jsonl").read_text("utf-8").splitlines()]
    found = {(row["file"], row["language"]): row for row in rows}
    assert len(found) == len(rows), "a picture has two lines"
    return found


def never() -> Any:
    raise AssertionError("the model was loaded")


def test_each_picture_has_a_line_and_each_says_what_it_shows(pictures: Path, tiny: Load) -> None:
    tally = do(pictures, tiny)
    rows = lines(pictures)
    assert {row["file"]: row["caption"] for row in rows.values() if row["file"] < "04"} == {
        "00.png": "a red circle",
        "01.png": "two red circles",
        "02.png": "three red circles",
        "03.png": "four red circles",
    }
    assert (tally.generated, tally.copied, tally.skipped) == (12, 1, 0)
    assert rows["more/again.png", "en"]["caption"] == "four red circles"
    broken = rows["broken.jpg", "en"]
    assert broken["caption"] is None
    assert "not an image" in broken["error"]
    assert tally.errors == [("broken.jpg", broken["error"])]
    assert all(sorted(row) == sorted(CaptionRecord.__dataclass_fields__) for row in rows.values())


@pytest.mark.parametrize("options", [STREAM, GenerationOptions(max_new_tokens=12, quality="best")])
@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_captions_do_not_depend_on_how_many_are_written_at_once(
    pictures: Path, tiny: Load, options: GenerationOptions, batch_size: int | None
) -> None:
    do(pictures, tiny, CaptionTask("tiny", "fp32", "en", "", options), batch_size=batch_size)
    captions = {name: row["caption"] for (name, _), row in lines(pictures).items()}
    assert captions["02.png"] == "three red circles"
    assert captions["05.png"] == "two green circles"


def test_a_rerun_reads_digests_only(pictures: Path, tiny: Load) -> None:
    do(pictures, tiny)
    before = lines(pictures)
    tally = do(pictures, never)
    assert (tally.generated, tally.copied, tally.skipped, len(tally.errors)) == (0, 0, 13, 1)
    assert lines(pictures) == before


def test_a_renamed_picture_costs_nothing_and_a_changed_one_is_done_again(pictures: Path, tiny: Load) -> None:
    do(pictures, tiny)
    (pictures / "00.png").rename(pictures / "renamed.png")
    tally = do(pictures, never)
    assert (tally.copied, lines(pictures)["renamed.png", "en"]["caption"]) == (1, "a red circle")
    draw(pictures / "01.png", 6)
    assert do(pictures, never).copied == 1, "06.png shows the same"
    assert lines(pictures)["01.png", "en"]["caption"] == "three green circles"


def test_another_question_language_or_decoding_is_other_work(pictures: Path, tiny: Load) -> None:
    do(pictures, tiny)
    german = CaptionTask("tiny", "fp32", "de", "", STREAM)
    assert do(pictures, tiny, CAPTION, german).generated == 12
    assert lines(pictures)["01.png", "de"]["caption"] == "zwei rote Kreise"
    with OutputLog(pictures.parent / "lines.jsonl") as ledger:
        ledger.filter(lambda record: record.language == "en")
    counted = CaptionTask("tiny", "fp32", "de", "How many circles are there?", STREAM)
    do(pictures, tiny, counted)
    assert lines(pictures)["02.png", "de"]["caption"] == "drei"


def test_a_file_that_was_mended_is_another_picture(pictures: Path, tiny: Load) -> None:
    do(pictures, tiny)
    draw(pictures / "broken.jpg", 7)
    assert do(pictures, tiny).generated == 1
    assert lines(pictures)["broken.jpg", "en"]["caption"] == "four green circles"


def test_stopping_ends_the_batch_in_hand_and_the_next_run_goes_on(pictures: Path, tiny: Load) -> None:
    first = do(pictures, tiny, batch_size=4, before=lambda run: run.stop())
    assert first.cancelled
    assert first.done == 0
    assert do(pictures, tiny, batch_size=4).done == 14


def test_who_writes_elsewhere_is_let_go_when_the_job_is_stopped_and_what_came_stands(pictures: Path) -> None:
    ended = list[bool]()

    def elsewhere(wishes: Iterator[list[PendingCaption]]) -> Generator[list[Caption], None, None]:
        try:
            for asked in wishes:
                yield [Caption(wish, "a picture") for wish in asked]
        finally:
            ended.append(True)

    first = do(pictures, never, remote_workers=elsewhere, before=lambda run: run.stop())
    assert (first.cancelled, ended) == (True, [True])
    assert do(pictures, never, remote_workers=elsewhere).done == 14
    assert lines(pictures)["more/again.png", "en"]["caption"] == "a picture"


def test_a_torn_line_is_taken_away_and_done_again(pictures: Path, tiny: Load) -> None:
    do(pictures, tiny)
    whole = lines(pictures)
    file = pictures.parent / "lines.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[:-40])
    assert do(pictures, tiny).done == 14
    assert {name: row["caption"] for name, row in lines(pictures).items()} == {
        name: row["caption"] for name, row in whole.items()
    }


def test_a_file_that_changes_while_the_model_loads_costs_no_equal_file_its_line(pictures: Path, tiny: Load) -> None:
    """The equal file had no line at all, and nobody said so."""

    def load() -> Any:
        draw(pictures / "03.png", 40)
        return tiny()

    do(pictures, load)
    assert lines(pictures)["more/again.png", "en"]["caption"] == "four red circles"
    assert lines(pictures)["03.png", "en"]["caption"] == "a red circle"


def test_a_file_that_cannot_be_read_for_a_moment_keeps_its_caption(
    pictures: Path, tiny: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its line was replaced by one with an error, and the caption was gone."""
    do(pictures, tiny)
    before = lines(pictures)
    with monkeypatch.context() as patch:
        patch.setattr(images, "read_file", unreadable(images.read_file, "05.png"))
        tally = do(pictures, never)
    assert ("05.png", "The file cannot be read.") in tally.errors
    assert lines(pictures) == before
    assert do(pictures, never).skipped == 13


def test_written_again_a_file_that_cannot_be_read_for_a_moment_keeps_its_caption_too(
    pictures: Path, tiny: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(pictures, tiny)
    monkeypatch.setattr(images, "read_file", unreadable(images.read_file, "00.png"))
    names = folder_listing.find_images(pictures, recursive=True, pattern=None, limit=None).names
    with OutputLog(pictures.parent / "lines.jsonl") as ledger:
        ledger.start_over()
        FolderRun(
            FolderJob(pictures, names, [CAPTION], tiny, regenerate=True), ledger, on_progress=lambda _: None
        ).run()
    assert lines(pictures)["00.png", "en"]["caption"] == "a red circle"
    assert len(lines(pictures)) == 14


def unreadable(read: Callable[..., bytes], name: str) -> Callable[..., bytes]:
    def refuse(path: Path, **limits: Any) -> bytes:
        if path.name == name:
            raise ImageError("The file cannot be read.")
        return read(path, **limits)

    return refuse


def test_another_model_of_the_same_name_does_its_own_work(pictures: Path, tiny: Load) -> None:
    """A fine-tune in a folder of the same name, or an adapter, took the captions of the other for its own."""
    do(pictures, tiny, replace(CAPTION, fingerprint="one"))
    assert do(pictures, tiny, replace(CAPTION, fingerprint="other")).generated == 12
    with (pictures.parent / "lines.jsonl").open() as file:
        assert {json.loads(line)["fingerprint"] for line in file} == {"one", "other"}
    assert do(pictures, never, replace(CAPTION, fingerprint="one", model="renamed")).skipped == 13


def test_a_file_that_is_known_to_have_no_place_is_told_and_not_read(pictures: Path, tiny: Load) -> None:
    refused = {"07.png": "Its text has no place."}
    assert do(pictures, tiny, refused=refused).generated == 11
    assert lines(pictures)["07.png", "en"]["error"] == "Its text has no place."
    assert do(pictures, never, refused=refused).skipped == 12
    assert do(pictures, tiny).generated == 1
