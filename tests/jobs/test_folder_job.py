"""Every image gets one record, whatever happened before."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blip_space import images
from blip_space.engine import batch_size as sizes
from blip_space.errors import ImageError
from blip_space.jobs import folder_listing
from blip_space.jobs.folder_captioner import Caption, PendingCaption
from blip_space.jobs.folder_job import FolderJob, FolderRun
from blip_space.jobs.job_progress import JobProgress
from blip_space.jobs.output_log import OutputLog
from blip_space.jobs.records import CaptionRecord, CaptionTask
from blip_space.options import GenerationOptions
from tests.jobs.folder_fixtures import draw
from tests.serving.fakes import wait_until

STREAM = GenerationOptions(max_new_tokens=12)
BEST = GenerationOptions(max_new_tokens=12, quality="best")
CAPTION = CaptionTask("tiny", "fp32", "en", "", STREAM)
Load = Callable[[], Any]


def run_job(
    image_folder: Path,
    load: Load,
    *tasks: CaptionTask,
    prepare: Callable[[FolderRun], None] = lambda _: None,
    **job: Any,
) -> JobProgress:
    """Caption the folder into `records.jsonl` beside it."""
    names = folder_listing.find_images(image_folder, recursive=True, pattern=None, limit=None).names
    with OutputLog(image_folder.parent / "records.jsonl") as output_log:
        run = FolderRun(
            FolderJob(image_folder, names, tasks or (CAPTION,), load, **job), output_log, on_progress=lambda _: None
        )
        prepare(run)
        return run.run()


def read_records(image_folder: Path) -> dict[tuple[str, str], Any]:
    rows = [json.loads(line) for line in (image_folder.parent / "records.jsonl").read_text("utf-8").splitlines()]
    by_file = {(row["file"], row["language"]): row for row in rows}
    assert len(by_file) == len(rows), "an image has two records"
    return by_file


def never() -> Any:
    raise AssertionError("the model was loaded")


def test_each_image_has_a_record_with_its_caption_or_error(image_folder: Path, tiny: Load) -> None:
    progress = run_job(image_folder, tiny)
    rows = read_records(image_folder)
    assert {row["file"]: row["caption"] for row in rows.values() if row["file"] < "04"} == {
        "00.png": "a red circle",
        "01.png": "two red circles",
        "02.png": "three red circles",
        "03.png": "four red circles",
    }
    assert (progress.generated, progress.copied, progress.skipped) == (12, 1, 0)
    assert rows["more/again.png", "en"]["caption"] == "four red circles"
    broken = rows["broken.jpg", "en"]
    assert broken["caption"] is None
    assert "not a" in broken["error"]
    assert progress.errors == [("broken.jpg", broken["error"])]
    assert all(sorted(row) == sorted(CaptionRecord.__dataclass_fields__) for row in rows.values())


def test_a_gpu_captions_while_images_are_loaded(
    image_folder: Path, tiny: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captions of the first images are written before the last one is read."""
    monkeypatch.setattr(sizes, "is_on_gpu", lambda _: True)
    captioned = list[int]()

    def hold(run: FolderRun) -> None:
        load = run._reader.load

        def slow_load(file: str) -> Any:
            if file == "11.png":
                wait_until(lambda: run.progress.generated == 11)
                captioned.append(run.progress.generated)
            return load(file)

        run._reader.load = slow_load  # type: ignore[method-assign]

    progress = run_job(image_folder, tiny, prepare=hold, workers=2)
    assert (progress.generated, captioned[-1]) == (12, 11)
    assert read_records(image_folder)["11.png", "en"]["caption"]


def test_captions_that_finish_together_are_written_at_once(
    image_folder: Path, tiny: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU waited for a write for each of them."""
    counts, append = list[int](), OutputLog.append

    def counted(log: OutputLog, records: Sequence[CaptionRecord]) -> None:
        counts.append(sum(record.caption is not None for record in records))
        append(log, records)

    monkeypatch.setattr(OutputLog, "append", counted)
    progress = run_job(image_folder, tiny, CaptionTask("tiny", "fp32", "en", "", GenerationOptions(max_new_tokens=1)))
    assert (progress.done, sorted(counts)) == (14, [0, 13])  # an error, and all captions with a copy


@pytest.mark.parametrize(("options", "batch_size"), [(STREAM, 1), (STREAM, 3), (STREAM, None), (BEST, 3), (BEST, None)])
def test_captions_do_not_depend_on_the_batch_size(
    image_folder: Path, tiny: Load, options: GenerationOptions, batch_size: int | None
) -> None:
    run_job(image_folder, tiny, CaptionTask("tiny", "fp32", "en", "", options), batch_size=batch_size)
    captions = {name: row["caption"] for (name, _), row in read_records(image_folder).items()}
    assert captions["02.png"] == "three red circles"
    assert captions["05.png"] == "two green circles"


def test_a_rerun_computes_digests_and_loads_no_model(image_folder: Path, tiny: Load) -> None:
    run_job(image_folder, tiny)
    before = read_records(image_folder)
    progress = run_job(image_folder, never)
    assert (progress.generated, progress.copied, progress.skipped, len(progress.errors)) == (0, 0, 13, 1)
    assert read_records(image_folder) == before


def test_a_renamed_image_is_copied_and_a_changed_one_is_captioned_again(image_folder: Path, tiny: Load) -> None:
    run_job(image_folder, tiny)
    (image_folder / "00.png").rename(image_folder / "renamed.png")
    progress = run_job(image_folder, never)
    assert (progress.copied, read_records(image_folder)["renamed.png", "en"]["caption"]) == (1, "a red circle")
    draw(image_folder / "01.png", 6)
    assert run_job(image_folder, never).copied == 1, "06.png is a duplicate"
    assert read_records(image_folder)["01.png", "en"]["caption"] == "three green circles"


def test_another_prompt_or_language_gets_its_own_records(image_folder: Path, tiny: Load) -> None:
    run_job(image_folder, tiny)
    german = CaptionTask("tiny", "fp32", "de", "", STREAM)
    assert run_job(image_folder, tiny, CAPTION, german).generated == 12
    assert read_records(image_folder)["01.png", "de"]["caption"] == "zwei rote Kreise"
    with OutputLog(image_folder.parent / "records.jsonl") as output_log:
        output_log.filter(lambda record: record.language == "en")
    counted = CaptionTask("tiny", "fp32", "de", "How many circles are there?", STREAM)
    run_job(image_folder, tiny, counted)
    assert read_records(image_folder)["02.png", "de"]["caption"] == "drei"


def test_a_file_that_was_repaired_is_captioned(image_folder: Path, tiny: Load) -> None:
    run_job(image_folder, tiny)
    draw(image_folder / "broken.jpg", 7)
    assert run_job(image_folder, tiny).generated == 1
    assert read_records(image_folder)["broken.jpg", "en"]["caption"] == "four green circles"


def test_a_stopped_job_is_resumed_by_the_next_run(image_folder: Path, tiny: Load) -> None:
    first = run_job(image_folder, tiny, batch_size=4, prepare=lambda run: run.stop())
    assert first.cancelled
    assert first.done == 0
    assert run_job(image_folder, tiny, batch_size=4).done == 14


def test_remote_workers_are_closed_when_the_job_is_stopped_and_their_captions_are_kept(image_folder: Path) -> None:
    closed = list[bool]()

    def caption(missing: Iterator[list[PendingCaption]]) -> Generator[list[Caption], None, None]:
        try:
            for captions in missing:
                yield [Caption(pending, "an image") for pending in captions]
        finally:
            closed.append(True)

    first = run_job(image_folder, never, remote_workers=caption, prepare=lambda run: run.stop())
    assert (first.cancelled, closed) == (True, [True])
    assert run_job(image_folder, never, remote_workers=caption).done == 14
    assert read_records(image_folder)["more/again.png", "en"]["caption"] == "an image"


def test_a_partial_line_is_removed_and_its_image_captioned_again(image_folder: Path, tiny: Load) -> None:
    run_job(image_folder, tiny)
    complete = read_records(image_folder)
    file = image_folder.parent / "records.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[:-40])
    assert run_job(image_folder, tiny).done == 14
    assert {name: row["caption"] for name, row in read_records(image_folder).items()} == {
        name: row["caption"] for name, row in complete.items()
    }


def test_a_file_that_changes_while_the_model_loads_does_not_affect_its_duplicate(
    image_folder: Path, tiny: Load
) -> None:
    """The duplicate had no record at all, silently."""

    def load() -> Any:
        draw(image_folder / "03.png", 40)
        return tiny()

    run_job(image_folder, load)
    assert read_records(image_folder)["more/again.png", "en"]["caption"] == "four red circles"
    assert read_records(image_folder)["03.png", "en"]["caption"] == "a red circle"


def test_a_file_that_is_unreadable_for_a_moment_keeps_its_caption(
    image_folder: Path, tiny: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record was replaced by one with an error, and the caption was lost."""
    run_job(image_folder, tiny)
    before = read_records(image_folder)
    with monkeypatch.context() as patch:
        patch.setattr(images, "read_file", unreadable(images.read_file, "05.png"))
        progress = run_job(image_folder, never)
    assert ("05.png", "The file cannot be read.") in progress.errors
    assert read_records(image_folder) == before
    assert run_job(image_folder, never).skipped == 13


def test_a_file_that_is_unreadable_for_a_moment_keeps_its_caption_in_a_new_start(
    image_folder: Path, tiny: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job(image_folder, tiny)
    monkeypatch.setattr(images, "read_file", unreadable(images.read_file, "00.png"))
    names = folder_listing.find_images(image_folder, recursive=True, pattern=None, limit=None).names
    with OutputLog(image_folder.parent / "records.jsonl") as output_log:
        output_log.start_over()
        FolderRun(
            FolderJob(image_folder, names, [CAPTION], tiny, regenerate=True), output_log, on_progress=lambda _: None
        ).run()
    assert read_records(image_folder)["00.png", "en"]["caption"] == "a red circle"
    assert len(read_records(image_folder)) == 14


def unreadable(read: Callable[..., bytes], name: str) -> Callable[..., bytes]:
    def refuse(path: Path, **limits: Any) -> bytes:
        if path.name == name:
            raise ImageError("The file cannot be read.")
        return read(path, **limits)

    return refuse


def test_another_model_of_the_same_name_generates_its_own_captions(image_folder: Path, tiny: Load) -> None:
    """A fine-tune in a folder of the same name, or an adapter, reused the captions of the other."""
    run_job(image_folder, tiny, replace(CAPTION, fingerprint="one"))
    assert run_job(image_folder, tiny, replace(CAPTION, fingerprint="other")).generated == 12
    with (image_folder.parent / "records.jsonl").open() as file:
        assert {json.loads(line)["fingerprint"] for line in file} == {"one", "other"}
    assert run_job(image_folder, never, replace(CAPTION, fingerprint="one", model="renamed")).skipped == 13


def test_a_refused_file_gets_its_message_and_is_not_read(image_folder: Path, tiny: Load) -> None:
    refused = {"07.png": "Its text cannot be written."}
    assert run_job(image_folder, tiny, refused=refused).generated == 11
    assert read_records(image_folder)["07.png", "en"]["error"] == "Its text cannot be written."
    assert run_job(image_folder, never, refused=refused).skipped == 12
    assert run_job(image_folder, tiny).generated == 1
