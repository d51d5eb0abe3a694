"""`python -m blip_space folder DIR`: captions for a folder of images, saved as they come.

Brings arguments, signals, the ledger and the job together. Everything that a person can have got wrong is told before
the model is loaded.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

from blip_space import catalogue
from blip_space.apps.cli import folder_arguments as arguments
from blip_space.apps.cli.folder_progress import ProgressPrinter, print_message, summarize
from blip_space.apps.cli.progress_bar import print_load_progress
from blip_space.catalogue.fingerprint import fingerprint
from blip_space.errors import UserError
from blip_space.jobs import folder_listing
from blip_space.jobs.folder_identity import refuse_other_folder
from blip_space.jobs.folder_job import FolderJob, FolderRun, JobProgress
from blip_space.jobs.folder_listing import Listing
from blip_space.jobs.output_log import OutputLog
from blip_space.jobs.outputs.corrections import Corrections
from blip_space.jobs.outputs.output_files import Outcome, OutputFiles
from blip_space.jobs.outputs.text_format import parse_text_format
from blip_space.jobs.records import CaptionRecord, CaptionTask

TEXT_BY_HAND = "with a text of your own"


def caption_folder(given: argparse.Namespace, spec: catalogue.ModelSpec, precision: str) -> int:
    """Do the job; the exit code."""
    form = parse_text_format(given.extension, given.prefix, given.suffix)
    limit, batch_size = arguments.parse_limit(given.limit), arguments.parse_batch_size(given.batch_size)
    decoding = arguments.parse_decoding(given)
    if given.workers < 1:
        raise UserError("--workers must be at least 1.")
    output = OutputFiles(
        given.format, given.output, given.folder, text_format=form, overwrite_edited=given.overwrite_edited
    )
    listing = folder_listing.find_images(
        given.folder, recursive=given.recursive, pattern=given.glob, limit=limit, own_files=output.files
    )
    codes = arguments.parse_languages(given, spec)
    identity = fingerprint(spec)
    known_by_name = {} if spec.adapter else {spec.name: identity}  # a line that names no adapter may be of another
    with (
        OutputLog(output.log_path, fingerprints=known_by_name, overwrite_edited=given.overwrite_edited) as ledger,
        _crew(given, spec, batch_size) as crew,
    ):
        _prepare(ledger, output, given)
        names, refused = _places(listing, output, ledger, given)
        decided = _precision(spec, precision, identity, ledger, choose=crew.select_precision if crew else None)
        tasks = [CaptionTask(spec.name, decided, code, given.prompt, decoding, identity) for code in codes]
        job = FolderJob(
            given.folder,
            names,
            tasks,
            load=lambda: _load(spec, decided),
            batch_size=batch_size,
            workers=given.workers,
            regenerate=given.existing == "append",
            remote_workers=crew.caption if crew else None,
            refused=refused,
        )
        tally = _run(job, ledger, given)
        outcome = _finish(ledger, output, job, tally)
    return summarize(tally, listing, outcome, given)


def _prepare(ledger: OutputLog, output: OutputFiles, given: argparse.Namespace) -> None:
    """Refuse what would write over somebody's work; then what `--existing` and `--retry-errors` do to the lines."""
    output.check(ledger)
    if given.existing == "overwrite":
        ledger.start_over()
        return
    refuse_other_folder(ledger, given.folder)
    if ledger.lacks_fingerprints:
        print_message(
            f"{ledger.path.name} has lines that name their model only; they count as this model's of that name"
        )
    if given.retry_errors:
        ledger.filter(lambda record: record.error is None)


def _places(
    listing: Listing, output: OutputFiles, ledger: OutputLog, given: argparse.Namespace
) -> tuple[list[str], dict[str, str]]:
    """The files whose caption has a place, and those for whose text there is none, each with a sentence."""
    names = listing.names
    if given.format != "txt":
        return names, {}
    if given.existing == "skip" and not given.overwrite_edited:
        theirs = output.texts.find_user_written(names) - {file for file, _ in ledger.entries}
        names = [name for name in names if name not in theirs]
        if theirs:
            listing.ignored[TEXT_BY_HAND] = len(theirs)
            listing.names = names
    return names, output.texts.find_blocked(names)


def _run(job: FolderJob, ledger: OutputLog, given: argparse.Namespace) -> JobProgress:
    shown = ProgressPrinter(as_json=given.json)
    run = FolderRun(job, ledger, on_progress=shown)
    before = signal.getsignal(signal.SIGINT)

    def end(*_: object) -> None:
        """After the batch in hand; who presses it twice does not wait for that."""
        run.stop()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, end)
    try:
        tally = run.run()
    finally:
        signal.signal(signal.SIGINT, before)
        shown.close()
    return tally


def _finish(ledger: OutputLog, output: OutputFiles, job: FolderJob, tally: JobProgress) -> Outcome:
    """Take over what a person corrected, and make what was asked for of the lines."""
    failed, notes = list[tuple[str, str]](), list[str]()
    if not output.overwrite_edited:
        corrections = Corrections(output.tree, job.files)
        notes = corrections.notes
        try:
            if corrections:
                ledger.replace(lambda record: corrections.correct(record) if _is_of(record, job.tasks) else None)
        except UserError as error:
            failed.append((ledger.path.name, f"Captions that a person corrected are not in it. {error}"))
    own = [] if output.format == "jsonl" else list(_own(ledger, job))  # the lines themselves are that form
    outcome = output.write(own, unreadable={file for file, _ in tally.errors})
    if ledger.superseded_error:
        failed.append((ledger.path.name, f"Older lines of changed images still stand. {ledger.superseded_error}"))
    outcome.failed += failed
    outcome.notes += notes
    return outcome


def _own(ledger: OutputLog, job: FolderJob) -> Iterable[CaptionRecord]:
    """What this job's folder holds now, in this job's options: the last line of each question."""
    names = set(job.files)
    own = (record for record in ledger.records() if record.file in names and _is_of(record, job.tasks))
    return {(record.file, record.key()[1:]): record for record in own}.values()


def _is_of(record: CaptionRecord, tasks: Sequence[CaptionTask]) -> bool:
    return any(record.key()[1:] == task.key("")[1:] for task in tasks)


def _crew(given: argparse.Namespace, spec: catalogue.ModelSpec, batch_size: int | None) -> Any:
    """The workers of a cluster, where one is named."""
    if given.ray is None:
        return nullcontext()
    from blip_space.apps.cluster.worker_pool import open_worker_pool

    return open_worker_pool(given.ray, spec, given.folder, batch_size=batch_size, threads=given.workers)


def _precision(
    spec: catalogue.ModelSpec,
    wanted: str,
    identity: str,
    ledger: OutputLog,
    *,
    choose: Callable[[str], str] | None = None,
) -> str:
    """What is asked for; `auto` stays what it was for the lines that are there, whatever memory is free today."""
    before = next((key[2] for key in ledger.captioned if key[1] == identity), None)
    if wanted == "auto" and before:
        return before
    if choose:
        return choose(wanted)
    from blip_space.loading import precision
    from blip_space.loading.device import find_device, free_bytes

    device = find_device()
    return precision.select_precision(wanted, spec, device, free=free_bytes(device.name)).name


def _load(spec: catalogue.ModelSpec, precision: str) -> Any:
    from blip_space.loading import loader

    return loader.load_model(spec, precision, on_progress=print_load_progress(spec.name))
