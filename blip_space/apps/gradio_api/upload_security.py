"""Checks every value that a caller sends, above all uploaded files.

Gradio passes raw values to handlers, opens any image path that is sent without `meta`, fetches URLs, and answers values
of a wrong shape with its own messages. `SecureBlocks` wraps every event of the page and the API: it refuses a value
that names a file which was not uploaded here, and turns every error into one sentence.

Depends on Gradio's payloads and errors, and on images. Must not depend on models or prompts.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import anyio
import gradio as gr
from gradio.data_classes import ImageData, ListFiles
from starlette.exceptions import HTTPException

from blip_space.apps import error_texts, locales
from blip_space.apps.gradio_api import session_states
from blip_space.apps.gradio_api.call_values import INVALID_VALUE, Hidden, check_call, is_uploaded, reference_error
from blip_space.apps.gradio_api.queue_shares import QueueShares
from blip_space.apps.http.callers import caller_of, group
from blip_space.apps.http.clients import client_of
from blip_space.apps.http.refusals import CODE_HEADER
from blip_space.callers import Caller, current_caller
from blip_space.errors import Code, ImageError, UserError
from blip_space.images import FORMAT_NAMES
from blip_space.images.uploaded import UploadedImageFile
from blip_space.serving.observed import current_client, current_endpoint

log = logging.getLogger(__name__)

NO_IMAGE = f"There is no image yet. Add a {FORMAT_NAMES.replace(' and ', ' or ')} file first."
EXAMPLE = "assets/examples/octopus.png"
"""The image in the snippets of the API page: a file of this project, so that they run in its folder."""

SESSION = re.compile(r"[!-~]{1,128}")
INVALID_SESSION = "The session_hash must have 1 to 128 printable ASCII characters. Choose a random one."
TOO_MANY_CALLS = "Many calls from your address are waiting already. Wait for their answers, then call again."
NO_EVENT = "There is no event of this number. Call an endpoint by its name, as the API page shows."
INTERNAL_ERROR = "An internal error occurred; the server's log has the details. Try again."
ERROR_SECONDS = 15
PAGE = "page"
"""What the page's own events are called where endpoints are counted."""

MAX_VALUE_CHECKS = 2
"""The values of how many calls are checked at once."""

MAX_CHECKED = 1_000
"""How many decodable images are remembered, so that an image is not checked again when it is asked about."""

_checked: dict[str, None] = {}
"""The digests of images that can be decoded, the oldest first."""


class SecureBlocks(gr.Blocks):  # type: ignore[misc]  # mypy does not follow Gradio
    """Blocks whose events accept only uploaded files and fail only with one-sentence errors."""

    on_call_end: Callable[[str, str], object] | None = None
    """Called with the endpoint and the outcome of each call that ends, unless its client leaves before."""

    def queue(self, *arguments: Any, **options: Any) -> Any:
        """Create Gradio's queue, which then accepts only events that there are, of sessions with a usable name, and
        of each caller only its share."""
        super().queue(*arguments, **options)
        self._value_checks = anyio.CapacityLimiter(MAX_VALUE_CHECKS)
        self._shares = shares = QueueShares(self._queue)

        async def push_valid(body: Any, request: Any, username: Any) -> Any:
            _check_address(self, body)
            caller = caller_of(request.scope)
            if not shares.has_share(caller.address):
                raise _http_error(503, "busy", TOO_MANY_CALLS)
            return await shares.push(caller, body, request, username)

        self._queue.push = push_valid
        return self

    def launch(self, *arguments: Any, **options: Any) -> Any:
        """Serve as Gradio does, but keep little of each session."""
        launched = super().launch(*arguments, **options)
        session_states.install(self.app)
        return launched

    def has_calls(self) -> bool:
        """Whether a call waits, runs, or has a result that its client is about to get. From any thread."""
        return self._shares.has_undelivered()

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *arguments: Any, **options: Any) -> Any:
        """Check the values, then call Gradio's method. Raises `UserError` if the check or Gradio refuses a value."""
        inputs = await check_call(block_fn, _with_later_defaults(block_fn, inputs), self._value_checks)
        try:
            processed = await super().preprocess_data(block_fn, inputs, *arguments, **options)
            return [value.reveal() if isinstance(value, Hidden) else value for value in processed]
        except Exception as error:
            log.info("a call of %s was refused: %s", block_fn.api_name, type(error).__name__)
            raise UserError(INVALID_VALUE) from None

    async def process_api(self, block_fn: Any, *arguments: Any, **options: Any) -> Any:
        """Call Gradio's method. Callers see the text of a `UserError`; other errors are logged and hidden from them."""
        request = options.get("request")
        current_caller.set(_caller(request))  # for this event only: it has a context of its own
        is_public = getattr(block_fn, "api_visibility", None) == "public"
        endpoint = block_fn.api_name if is_public else PAGE
        current_endpoint.set(endpoint)
        locales.current_locale.set(None if is_public else locales.locale_of(getattr(request, "headers", None) or {}))
        current_client.set(client_of(getattr(getattr(request, "request", None), "scope", None) or {}))
        try:
            output = await super().process_api(block_fn, *arguments, **options)
        except Exception as error:
            refusal = self._as_user_error(error)
            self._end_call(endpoint, refusal.code)
            raise _gradio_error(refusal, is_public=is_public) from None
        if not output.get("is_generating"):
            self._end_call(endpoint, "answered")
        return output

    def _end_call(self, endpoint: str, outcome: str) -> None:
        if self.on_call_end:
            self.on_call_end(endpoint, outcome)

    def _as_user_error(self, error: Exception) -> UserError:
        """The error for callers. One that is not for users is logged and hidden."""
        if isinstance(error, UserError):
            return error
        if isinstance(error, gr.Error):  # Gradio's own, which names the path in an event's data
            return UserError(INVALID_VALUE)
        log.error("an event of the page failed", exc_info=error)
        return UserError(INTERNAL_ERROR, code="internal_error")


def unvalidated(component: Any, schema: dict[str, Any]) -> Any:
    """Make the component pass the raw value to its handler, which checks it. `schema` is shown to clients.

    The attributes are set on the instance, because Gradio writes a file beside the source of every component subclass.
    """
    component.data_model = None
    component.api_info = lambda: schema
    return component


def with_example(component: Any, value: Any) -> Any:
    """Set the value in the snippets of the API page; the server would refuse the examples that Gradio chooses."""
    component.example_payload = component.example_value = lambda: value
    return component


def image_input(**properties: Any) -> Any:
    """An image component, whose raw value `parse_image` checks."""
    schema = ImageData.model_json_schema()
    schema.pop("description", None)
    schema["additional_description"] = "a file on your machine, by handle_file(...); URLs are not fetched"
    return with_example(unvalidated(gr.Image(type="filepath", **properties), schema), _example_file())


def parse_image(value: Any) -> UploadedImageFile:
    """The uploaded image that `value` names, not decoded. Raises `ImageError` for None, a URL or any other file."""
    if value is None:
        raise ImageError(NO_IMAGE, code="no_image")
    return UploadedImageFile(_uploaded_path(value))


def check_image(value: Any) -> None:
    """Raise `ImageError` unless `value` names an uploaded image that can be decoded. Each image is checked once."""
    image = parse_image(value)
    if image.digest not in _checked:
        image.check()
        _checked[image.digest] = None
        while len(_checked) > MAX_CHECKED:
            _checked.pop(next(iter(_checked)), None)


def files_input(**properties: Any) -> Any:
    """A component for many files, whose raw value `parse_files` checks."""
    description = "files on your machine, each by handle_file(...), or a zip of them; URLs are not fetched"
    schema = ListFiles.model_json_schema() | {"additional_description": description}
    return with_example(unvalidated(gr.File(file_count="multiple", **properties), schema), [_example_file()])


def parse_files(value: Any) -> list[tuple[str, Path]]:
    """The uploaded files in `value` as (name on the user's machine, path). Raises `ImageError` for other values."""
    files = [value] if isinstance(value, dict) else value or []
    if not isinstance(files, list):
        raise reference_error(files)
    return [(_original_name(file), _uploaded_path(file)) for file in files]


def _original_name(file: Any) -> str:
    name = file.get("orig_name") if isinstance(file, dict) else None
    text = name.encode("utf-8", "replace").decode() if isinstance(name, str) else ""
    return PurePosixPath(text.replace("\\", "/")).name or _uploaded_path(file).name


def _uploaded_path(value: Any) -> Path:
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str) or not is_uploaded(path):
        raise reference_error(value)
    return Path(path)


def upload_name(value: Any) -> str:
    """The name of the folder of the uploaded file in `value`, which stands in the file's address."""
    return _uploaded_path(value).parent.name


def _example_file() -> dict[str, Any]:
    """What `handle_file` would send for the example file. The snippets show its `url`."""
    meta = {"_type": "gradio.FileData"}
    return {"path": EXAMPLE, "url": EXAMPLE, "orig_name": PurePosixPath(EXAMPLE).name, "meta": meta}


def _with_later_defaults(block_fn: Any, inputs: list[Any]) -> list[Any]:
    """`inputs` with defaults for missing parameters that were added later. `UserError` if another value is missing."""
    missing = block_fn.inputs[len(inputs) :]
    if not all(getattr(component, "added_later", False) for component in missing):
        count = f"The call has {len(inputs)} of {len(block_fn.inputs)} values."
        raise UserError(f"{count} The API page lists them in order.")
    return [*inputs, *(component.value for component in missing)]


def _caller(request: Any) -> Caller:
    """The address and the session of an event's caller."""
    address = getattr(getattr(request, "client", None), "host", None)
    return Caller(group(str(address or "")), str(getattr(request, "session_hash", None) or ""))


def _check_address(blocks: Any, body: Any) -> None:
    """Raise the HTTP error for a call that no event or no session can take. Gradio would keep the call for ever."""
    session, event = body.session_hash, blocks.fns.get(body.fn_index)
    if session is not None and not SESSION.fullmatch(session):
        raise _http_error(400, "invalid_value", INVALID_SESSION)
    if event is None or event.fn is None:
        raise _http_error(404, "not_found", NO_EVENT)


def _http_error(status: int, code: Code, sentence: str) -> HTTPException:
    return HTTPException(status, sentence, headers={CODE_HEADER: code})


def _gradio_error(error: UserError, *, is_public: bool) -> gr.Error:
    """The error for Gradio's queue. Clients of the API find its code in the title, which Gradio's page does not show;
    the page's script finds it in the message."""
    message = str(error) if is_public else error_texts.notice(error.code, error_texts.describe(error))
    return gr.Error(message, title=error.code, duration=ERROR_SECONDS, print_exception=False)
