"""The command `folder`: captions for a folder of images, saved as they are generated.

Connects options, signals, the output log and the job. Every mistake of the user is reported before a model is loaded.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

from blip_space import catalogue
from blip_space.apps.cli import arguments
from blip_space.apps.cli.folder_progress import RESUME, ProgressPrinter, summarize
from blip_space.apps.cli.terminal import load_with_progress, print_message
from blip_space.catalogue.fingerprint import fingerprint
from blip_space.errors import DeviceError, RemoteError, UserError
from blip_space.jobs import folder_listing
from blip_space.jobs.folder_identity import refuse_other_folder
from blip_space.jobs.folder_job import FolderJob, FolderRun
from blip_space.jobs.folder_listing import Listing
from blip_space.jobs.job_progress import JobProgress
from blip_space.jobs.output_log import OutputLog
from blip_space.jobs.outputs.corrections import Corrections
from blip_space.jobs.outputs.output_files import OutputFiles
from blip_space.jobs.outputs.text_files import Outcome
from blip_space.jobs.outputs.text_format import parse_text_format
from blip_space.jobs.records import CaptionRecord, CaptionTask
from blip_space.settings import openai_key

USER_TEXT = "with a text of your own"

RAY_THREADS = 2
"""Threads that read images in each worker; a machine may run as many workers as it has processors."""


def caption_folder(args: argparse.Namespace) -> int:
    """Caption the folder that `args` names, and return the exit code."""
    spec, precision, device = arguments.parse_model(args)
    text_format = parse_text_format(args.extension, args.prefix, args.suffix)
    batch_size = arguments.parse_batch_size(args.batch_size)
    decoding = arguments.parse_decoding(args)
    for name, number in (("limit", args.limit), ("workers", args.workers)):
        if number is not None and number < 1:
            raise UserError(f"--{name} must be at least 1.")
    output = OutputFiles(
        args.format, args.output, args.folder, text_format=text_format, overwrite_edited=args.overwrite_edited
    )
    listing = folder_listing.find_images(
        args.folder, recursive=args.recursive, pattern=args.glob, limit=args.limit, own_files=output.files
    )
    codes = arguments.parse_languages(args, spec)
    model_fingerprint = fingerprint(spec)
    # an old record has only the model's name, so it may be of another adapter
    fingerprints = {} if spec.adapter else {spec.name: model_fingerprint}
    with (
        OutputLog(output.log_path, fingerprints=fingerprints, overwrite_edited=args.overwrite_edited) as log,
        _worker_pool(args, spec, batch_size, device) as pool,
    ):
        _prepare(log, output, args)
        names, refused = _select_files(listing, output, log, args)
        previous = next((key[2] for key in log.captioned if key[1] == model_fingerprint), None)
        chosen = _select_precision(spec, precision, device, previous, pool)
        tasks = [CaptionTask(spec.name, chosen, code, args.prompt, decoding, model_fingerprint) for code in codes]
        job = FolderJob(
            args.folder,
            names,
            tasks,
            load=lambda: load_with_progress(spec, chosen, device),
            batch_size=batch_size,
            workers=args.workers,
            regenerate=args.existing == "append",
            remote_workers=pool.caption if pool else None,
            refused=refused,
        )
        progress = _run(job, log, args)
        outcome = _finish(log, output, job, progress)
    return summarize(progress, listing, outcome, args)


def _prepare(log: OutputLog, output: OutputFiles, args: argparse.Namespace) -> None:
    """Apply `--existing` and `--retry-errors` to `log`. Raises `UserError` if a user's file would be overwritten."""
    output.check(log)
    if args.existing == "overwrite":
        log.start_over()
        return
    refuse_other_folder(log, args.folder)
    if log.lacks_fingerprints:
        print_message(f"{log.path.name} has records that name only their model; they count as this model's")
    if args.retry_errors:
        log.filter(lambda record: record.error is None)


def _select_files(
    listing: Listing, output: OutputFiles, log: OutputLog, args: argparse.Namespace
) -> tuple[list[str], dict[str, str]]:
    """The images to caption, and errors by name for those whose text file cannot be written. An image whose text
    file a user wrote is moved to `listing.ignored` if `--existing` is `skip`."""
    names = listing.names
    if args.format != "txt":
        return names, {}
    if args.existing == "skip" and not args.overwrite_edited:
        user_written = output.texts.find_user_written(names) - {file for file, _ in log.entries}
        names = [name for name in names if name not in user_written]
        if user_written:
            listing.ignored[USER_TEXT] = len(user_written)
            listing.names = names
    return names, output.texts.find_blocked(names)


def _run(job: FolderJob, log: OutputLog, args: argparse.Namespace) -> JobProgress:
    printer = ProgressPrinter(as_json=args.json)
    run = FolderRun(job, log, on_progress=printer)
    previous = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        """Stop after the running batch; a second Ctrl-C stops at once."""
        run.stop()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, stop)
    try:
        return run.run()
    except (DeviceError, RemoteError) as error:
        sentence = f"{error} All captions so far are saved; {RESUME[args.existing]}."
        raise type(error)(sentence, code=error.code) from error
    finally:
        signal.signal(signal.SIGINT, previous)
        printer.close()


def _finish(log: OutputLog, output: OutputFiles, job: FolderJob, progress: JobProgress) -> Outcome:
    """Put the captions that users corrected in the output files into the log, then write these files again."""
    failed, notes = list[tuple[str, str]](), list[str]()
    if not output.overwrite_edited:
        corrections = Corrections(output.manifests, job.files)
        notes = corrections.notes
        try:
            if corrections:
                log.replace(lambda record: corrections.correct(record) if _belongs_to(record, job.tasks) else None)
        except UserError as error:
            failed.append((log.path.name, f"Your corrected captions are not in this file. {error}"))
    own = [] if output.format == "jsonl" else list(_own_records(log, job))  # the log is the jsonl output
    outcome = output.write(own, unreadable={file for file, _ in progress.errors})
    if log.superseded_error:
        failed.append((log.path.name, f"This file still has old records of changed images. {log.superseded_error}"))
    outcome.failed += failed
    outcome.notes += notes
    return outcome


def _own_records(log: OutputLog, job: FolderJob) -> Iterable[CaptionRecord]:
    """The newest record of each image for each task of this job."""
    names = set(job.files)
    own = (record for record in log.records() if record.file in names and _belongs_to(record, job.tasks))
    return {(record.file, record.key()[1:]): record for record in own}.values()


def _belongs_to(record: CaptionRecord, tasks: Sequence[CaptionTask]) -> bool:
    return any(record.key()[1:] == task.key("")[1:] for task in tasks)


def _worker_pool(args: argparse.Namespace, spec: catalogue.ModelSpec, batch_size: int | None, device: str) -> Any:
    """A context manager for the workers of the Ray cluster in `--ray`, for a remote model, or for None."""
    if spec.server:
        if args.ray is not None:
            raise UserError(f"{spec.name} is computed by {spec.server_host}, so it needs no cluster. Leave --ray out.")
        from blip_space.jobs.remote_captioner import RemoteCaptioner

        return RemoteCaptioner(spec, args.folder, key=openai_key(), at_once=batch_size, workers=args.workers)
    if args.ray is None:
        return nullcontext()
    from blip_space.apps.cluster.worker_pool import WorkerPool

    threads = args.workers or RAY_THREADS
    return WorkerPool(args.ray, spec, args.folder, batch_size=batch_size, threads=threads, device=device)


def _select_precision(spec: catalogue.ModelSpec, requested: str, wanted: str, previous: str | None, pool: Any) -> str:
    """The precision to use on device `wanted`. For `auto`, that of earlier records (`previous`), else one that fits."""
    if requested == "auto" and previous:
        return previous
    if pool:
        return str(pool.select_precision(requested))
    from blip_space.loading import precision
    from blip_space.loading.device import find_device, free_bytes

    device = find_device(wanted)
    return precision.select_precision(requested, spec, device, free=free_bytes(device.name)).name
