"""The Batch tab: many pictures or a zip in, a table that fills, and files of it to take home.

Its own layout, handlers and events; it shares the engine with the conversation and nothing else. Knows components;
knows nothing of how a batch is run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from blip_space.apps.gradio_api.batches import Batches
from blip_space.apps.gradio_api.endpoints import BATCHES, MAX_BATCH_CALLS, session_of
from blip_space.apps.gradio_api.parsing import parse_model, parse_task
from blip_space.apps.gradio_api.upload_security import files_input, parse_files
from blip_space.apps.page import choices, static, strings
from blip_space.jobs import export
from blip_space.jobs.records import CaptionRecord
from blip_space.jobs.upload_job import UploadJob
from blip_space.languages import LANGUAGES
from blip_space.options import CAPTION
from blip_space.serving.protocol import EngineProtocol

FORMS: dict[str, tuple[str, Callable[[Sequence[CaptionRecord]], bytes]]] = {
    "JSON": ("captions.json", export.as_json),
    "JSONL": ("captions.jsonl", export.as_lines),
    "CSV": ("captions.csv", export.as_csv),
    "TXT (zip)": ("captions.zip", export.as_zip),
}
"""What can be taken home: its name on the button, the file's, and who writes it."""

IDLE = "() => window.blipSpace.idle()"
QUIET: dict[str, Any] = {"api_visibility": "private", "preprocess": False, "show_progress": "hidden"}


@dataclass(frozen=True)
class _Parts:
    """The components of the tab."""

    files: Any
    prompt: Any
    language: Any
    model: Any
    quality: Any
    start: Any
    cancel: Any
    progress: Any
    table: Any
    downloads: list[Any]


def build_batch_tab(engine: EngineProtocol, batches: Batches) -> None:
    """Put the tab into the Blocks that are being built."""
    at, does = _laid_out(engine), _Handlers(engine, batches)
    running = at.start.click(
        does.fill,
        [at.files, at.prompt, at.language, at.model, at.quality],
        [at.start, at.cancel, at.progress, at.table, *at.downloads],
        concurrency_id=BATCHES,
        concurrency_limit=MAX_BATCH_CALLS,
        **QUIET,
    )
    running.failure(None, None, [at.start, at.cancel], js=IDLE, **QUIET)
    at.cancel.click(does.cancel, None, None, **QUIET)
    at.model.change(does.choose_model, at.model, at.language, **QUIET)


def _laid_out(engine: EngineProtocol) -> _Parts:
    names, default = list(engine.specs), engine.default
    with gr.Row(elem_id="batch-desk"):
        with gr.Column(scale=4, min_width=300, elem_id="batch-left"):
            pictures = files_input(label=strings.FILES_LABEL, file_types=["image", ".zip"], elem_id="batch-files")
            gr.HTML(static.render_template("batch_bounds.html", sentence=strings.BATCH_LIMITS), padding=False)
            language = gr.Dropdown(
                choices.language_choices(default), value="en", label=strings.CAPTION_LANGUAGE, elem_id="batch-language"
            )
            model = gr.Dropdown(names, value=names[0], label=strings.MODEL_LABEL, visible=len(names) > 1)
            prompt = gr.Textbox(
                "", label=strings.BATCH_PROMPT, placeholder=strings.BATCH_PROMPT_PLACEHOLDER, elem_id="batch-prompt"
            )
            quality = gr.Radio(strings.BATCH_QUALITIES, value=CAPTION.quality, label=strings.QUALITY_LABEL)
            start = gr.Button(strings.START, variant="primary", elem_id="batch-start")
            cancel = gr.Button(strings.CANCEL, visible=False, elem_id="batch-cancel")
        with gr.Column(scale=5, min_width=300, elem_id="batch-right"):
            progress = gr.HTML(static.render_template("batch_empty.html", sentence=strings.NO_BATCH), padding=False)
            with gr.Row(elem_id="batch-downloads"):
                downloads = [gr.DownloadButton(name, visible=False, min_width=70, size="sm") for name in FORMS]
            table = gr.HTML("", padding=False, elem_id="batch-table")
    return _Parts(pictures, prompt, language, model, quality, start, cancel, progress, table, downloads)


class _Handlers:
    """What the tab's buttons do. Each takes raw values, since anybody may call it."""

    def __init__(self, engine: EngineProtocol, batches: Batches) -> None:
        self._engine = engine
        self._batches = batches

    def fill(
        self, uploads: Any, prompt: Any, language: Any, model: Any, quality: Any, caller: gr.Request
    ) -> Iterator[list[Any]]:
        """Caption the files, and show what is there again and again."""
        task = parse_task(prompt, language, model, quality=quality, max_new_tokens=CAPTION.max_new_tokens)
        guests: UploadJob | None = None
        for guests in self._batches.run(session_of(caller), parse_files(uploads), task):
            yield [*_buttons(running=True), _progress(guests), _table(guests.records), *_downloads([])]
        assert guests is not None
        ended = _progress(guests, ended=True)
        yield [*_buttons(running=False), ended, _table(guests.records), *_downloads(guests.records)]

    def cancel(self, caller: gr.Request) -> None:
        """End the batch; what is done stays."""
        self._batches.cancel(session_of(caller))

    def choose_model(self, model: Any) -> Any:
        """The languages of a model that was chosen."""
        return gr.Dropdown(
            choices=choices.language_choices(self._engine.specs.get(parse_model(model), self._engine.default))
        )


def _buttons(*, running: bool) -> list[Any]:
    return [gr.Button(visible=not running), gr.Button(visible=running)]


def _progress(guests: UploadJob, *, ended: bool = False) -> str:
    tally = guests.progress
    sentence = strings.batch_result(tally) if ended else str(tally)
    return static.render_template("batch_progress.html", done=tally.done, total=tally.total, sentence=sentence)


def _table(records: Sequence[CaptionRecord]) -> str:
    """Left open at its end, so that only new rows are sent; the browser closes it."""
    return static.render_template("batch_head.html") + "".join(map(_row, records))


def _row(record: CaptionRecord) -> str:
    language = LANGUAGES[record.language]
    if record.error is not None:
        return static.render_template("batch_error.html", file=record.file, error=record.error)
    return static.render_template(
        "batch_row.html",
        file=record.file,
        caption=record.caption,
        code=language.code,
        language=language.own_name,
    )


def _downloads(records: Sequence[CaptionRecord]) -> list[Any]:
    """The files lie among the uploads, and go with them."""
    if not records:
        return [gr.DownloadButton(visible=False)] * len(FORMS)
    folder = Path(tempfile.mkdtemp(dir=get_upload_folder()))
    for name, write in FORMS.values():
        (folder / name).write_bytes(write(records))
    return [gr.DownloadButton(value=str(folder / name), visible=True) for name, _ in FORMS.values()]
