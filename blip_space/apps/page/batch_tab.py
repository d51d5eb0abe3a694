"""The Batch tab: upload many images or a zip, watch a table of captions grow, download it.

It has its own layout, handlers and events, and shares only the engine with the Chat tab. Depends on components, jobs
and the API's batches.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from blip_space.apps import error_texts
from blip_space.apps.gradio_api.batches import Batches
from blip_space.apps.gradio_api.endpoints import BATCHES, MAX_BATCH_CALLS, session_of
from blip_space.apps.gradio_api.parsing import parse_model, parse_task
from blip_space.apps.gradio_api.upload_security import files_input, parse_files
from blip_space.apps.locales import text
from blip_space.apps.page import static, status_text
from blip_space.errors import UserError
from blip_space.images import MAX_UPLOAD_BYTES
from blip_space.jobs import export
from blip_space.jobs.records import CaptionRecord
from blip_space.jobs.upload_archive import MAX_IMAGES
from blip_space.jobs.upload_job import MAX_SECONDS, UploadJob
from blip_space.languages import LANGUAGES
from blip_space.options import CAPTION
from blip_space.serving.protocol import EngineProtocol

DOWNLOADS: dict[str, tuple[str, Callable[[Sequence[CaptionRecord]], bytes]]] = {
    "JSON": ("captions.json", export.as_json),
    "JSONL": ("captions.jsonl", export.as_lines),
    "CSV": ("captions.csv", export.as_csv),
    "TXT (zip)": ("captions.zip", export.as_zip),
}
"""The download formats by button text: the file's name, and the function that returns its bytes."""

COLUMNS = ("file", "caption", "language")
RESET_BUTTONS = "() => window.blipSpace.resetBatchButtons()"
PRIVATE: dict[str, Any] = {"api_visibility": "private", "preprocess": False, "show_progress": "hidden"}


def build_batch_tab(engine: EngineProtocol, batches: Batches) -> Any:
    """Add the tab to the current Blocks. Returns the component of the captions' language."""
    handlers = _Handlers(engine, batches)
    with gr.Row(elem_id="batch-columns"):
        with gr.Column(scale=4, min_width=300, elem_id="batch-left"):
            inputs = _build_inputs(engine, handlers)
            start = gr.Button(text("start"), variant="primary", elem_id="batch-start")
            cancel = gr.Button(text("cancel"), visible=False, elem_id="batch-cancel")
        with gr.Column(scale=5, min_width=300, elem_id="batch-right"):
            progress = gr.HTML(static.render_template("batch_empty.html", sentence=text("no_batch")), padding=False)
            with gr.Row(elem_id="batch-downloads"):
                downloads = [gr.DownloadButton(name, visible=False, min_width=70, size="sm") for name in DOWNLOADS]
            table = gr.HTML("", padding=False, elem_id="batch-table")
    running = start.click(
        handlers.run,
        inputs,
        [start, cancel, progress, table, *downloads],
        concurrency_id=BATCHES,
        concurrency_limit=MAX_BATCH_CALLS,
        **PRIVATE,
    )
    running.failure(None, None, [start, cancel], js=RESET_BUTTONS, **PRIVATE)
    cancel.click(handlers.cancel, None, None, **PRIVATE)
    return inputs[2]


def _build_inputs(engine: EngineProtocol, handlers: _Handlers) -> list[Any]:
    """Add the input components, and return them in the order of the parameters of `_Handlers.run`."""
    names, default = list(engine.specs), engine.default
    files = files_input(label=text("files_label"), elem_id="batch-files")
    limits = text(
        "batch_limits", images=MAX_IMAGES, megabytes=MAX_UPLOAD_BYTES // 1_000_000, minutes=round(MAX_SECONDS / 60)
    )
    gr.HTML(static.render_template("batch_limits.html", sentence=limits), padding=False)
    language = gr.Dropdown(
        status_text.language_choices(default),
        value="en",
        label=text("captions_language"),
        info=text("language_info"),
        elem_id="batch-language",
    )
    model = gr.Dropdown(names, value=names[0], label=text("model_label"), visible=len(names) > 1)
    model.change(handlers.update_languages, model, language, **PRIVATE)
    prompt = gr.Textbox(
        "", label=text("batch_prompt"), placeholder=text("batch_prompt_placeholder"), elem_id="batch-prompt"
    )
    quality = gr.Radio(
        [(text("batch_quality_best"), "best"), (text("batch_quality_stream"), "stream")],
        value=CAPTION.quality,
        label=text("quality_label"),
    )
    return [files, prompt, language, model, quality]


class _Handlers:
    """The handlers of the tab's events. Each takes raw, untrusted values."""

    def __init__(self, engine: EngineProtocol, batches: Batches) -> None:
        self._engine = engine
        self._batches = batches

    def run(
        self, uploads: Any, prompt: Any, language: Any, model: Any, quality: Any, caller: gr.Request
    ) -> Iterator[list[Any]]:
        """Caption the files. Yields updates of the tab's components with the progress and the captions so far."""
        task = parse_task(prompt, language, model, quality=quality, max_new_tokens=CAPTION.max_new_tokens)
        job: UploadJob | None = None
        for job in self._batches.run(session_of(caller), parse_files(uploads), task):
            yield [*_buttons(running=True), _progress(job), _table(job), *_downloads([])]
        assert job is not None
        result = _progress(job, ended=True)
        yield [*_buttons(running=False), result, _table(job), *_downloads(job.records)]

    def cancel(self, caller: gr.Request) -> None:
        """Cancel the batch; finished captions are kept."""
        self._batches.cancel(session_of(caller))

    def update_languages(self, model: Any) -> Any:
        """An update of the language dropdown for the selected model."""
        spec = self._engine.specs.get(parse_model(model), self._engine.default)
        return gr.Dropdown(choices=status_text.language_choices(spec))


def _buttons(*, running: bool) -> list[Any]:
    return [gr.Button(visible=not running), gr.Button(visible=running)]


def _progress(job: UploadJob, *, ended: bool = False) -> str:
    done, total, errors = job.progress.done, job.progress.total, len(job.progress.errors)
    result = text("batch_cancelled" if job.progress.cancelled else "batch_done", done=done, total=total)
    if errors:
        result += ", " + text("batch_errors", n=errors)
    sentence = result if ended else _running(job)
    return static.render_template("batch_progress.html", done=done, total=total, sentence=sentence)


def _running(job: UploadJob) -> str:
    """How far a batch is, how fast, and how long it still takes."""
    progress, left = job.progress, job.progress.seconds_left
    parts = [text("done_of_total", done=progress.done, total=progress.total)]
    parts.append(text("per_second", rate=round(progress.items_per_second, 1)))
    if left:
        parts.append(status_text.time_left(left))
    if progress.errors:
        parts.append(text("batch_errors", n=len(progress.errors)))
    return text("list_separator").join(parts)


def _table(job: UploadJob) -> str:
    """The HTML table without its end tags, so that Gradio sends only the new rows; the browser adds the end tags."""
    head = static.render_template("batch_head.html", **{name: text(f"column_{name}") for name in COLUMNS})
    return head + "".join(map(_table_row, job.records, job.failures))


def _table_row(record: CaptionRecord, failure: UserError | None) -> str:
    language = LANGUAGES[record.language]
    if failure is not None:
        return static.render_template("batch_error.html", file=record.file, error=error_texts.describe(failure))
    return static.render_template(
        "batch_row.html",
        file=record.file,
        caption=record.caption,
        code=language.code,
        language=language.own_name,
    )


def _downloads(records: Sequence[CaptionRecord]) -> list[Any]:
    """The download buttons with their files, which are deleted like uploads; without records, hidden buttons."""
    if not records:
        return [gr.DownloadButton(visible=False)] * len(DOWNLOADS)
    uploads = Path(get_upload_folder())
    uploads.mkdir(parents=True, exist_ok=True)  # programs that clean temporary folders delete it
    folder = Path(tempfile.mkdtemp(dir=uploads))
    for name, write in DOWNLOADS.values():
        (folder / name).write_bytes(write(records))
    return [gr.DownloadButton(value=str(folder / name), visible=True) for name, _ in DOWNLOADS.values()]
