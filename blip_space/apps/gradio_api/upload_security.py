"""Checks every value that a caller sends, above all uploaded files.

Gradio passes raw values to handlers, opens any image path that is sent without `meta`, fetches URLs, and answers values
of a wrong shape with its own messages. `SecureBlocks` wraps every event of the page and the API: it refuses a value
that names a file which was not uploaded here, and turns every error into one sentence.

Depends on Gradio's payloads and errors, and on images. Must not depend on models or prompts.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path, PurePosixPath
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData, ListFiles
from gradio.utils import get_upload_folder

from blip_space.errors import ImageError, UserError
from blip_space.images import FORMAT_NAMES
from blip_space.images.decoding_queue import Caller
from blip_space.images.uploaded import UploadedImageFile, current_caller

log = logging.getLogger(__name__)

NO_IMAGE = f"There is no image yet. Add a {FORMAT_NAMES.replace(' and ', ' or ')} file first."
WAY_TO_SEND = 'send the file: handle_file("image.png"), with handle_file from gradio_client.'
NOT_UPLOADED = f"That is not an uploaded image. Instead {WAY_TO_SEND}"
NO_URLS = (
    f"That is a URL, not an uploaded image, and this server fetches none. Download the image first, then {WAY_TO_SEND}"
)
NO_PATHS = (
    "That is a path or a text, not an uploaded image, and this server reads only uploaded files. "
    f"If it names a file on your machine, {WAY_TO_SEND}"
)
URL = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
EXAMPLE = "assets/examples/octopus.png"
"""The image in the snippets of the API page: a file of this project, so that they run in its folder."""

INVALID_VALUE = "A value of this call has the wrong type or shape. The API page lists what each parameter takes."
INTERNAL_ERROR = "An internal error occurred; the server's log has the details. Try again."
ERROR_SECONDS = 15
MAX_CHECKED = 1_000
"""How many decodable images are remembered, so that an image is not checked again when it is asked about."""

_checked: dict[str, None] = {}
"""The digests of images that can be decoded, the oldest first."""

MAX_DEPTH = 50
"""The deepest nesting of lists and objects in a value. No valid value, such as a conversation, comes near it."""


class SecureBlocks(gr.Blocks):  # type: ignore[misc]  # mypy does not follow Gradio
    """Blocks whose events accept only uploaded files and fail only with one-sentence errors."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *arguments: Any, **options: Any) -> Any:
        """Check the values, then call Gradio's method. Raises `UserError` if the check or Gradio refuses a value."""
        inputs = _with_later_defaults(block_fn, inputs)
        _reject_paths_outside_uploads(inputs)
        try:
            return await super().preprocess_data(block_fn, inputs, *arguments, **options)
        except Exception as error:
            log.info("a call of %s was refused: %s", block_fn.api_name, type(error).__name__)
            raise UserError(INVALID_VALUE) from None

    async def process_api(self, *arguments: Any, **options: Any) -> Any:
        """Call Gradio's method. Callers see the text of a `UserError`; other errors are logged and hidden from them."""
        current_caller.set(_caller(options.get("request")))  # for this event only: it has a context of its own
        try:
            return await super().process_api(*arguments, **options)
        except gr.Error:
            raise
        except UserError as error:
            raise _gradio_error(str(error)) from None
        except Exception:
            log.exception("an event of the page failed")
            raise _gradio_error(INTERNAL_ERROR) from None


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
        raise ImageError(NO_IMAGE)
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
        raise ImageError(_rejection_reason(files))
    return [(_original_name(file), _uploaded_path(file)) for file in files]


def _original_name(file: Any) -> str:
    name = file.get("orig_name") if isinstance(file, dict) else None
    text = name.encode("utf-8", "replace").decode() if isinstance(name, str) else ""
    return PurePosixPath(text.replace("\\", "/")).name or _uploaded_path(file).name


def _uploaded_path(value: Any) -> Path:
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str) or not _is_uploaded(path):
        raise ImageError(_rejection_reason(value))
    return Path(path)


def _rejection_reason(value: Any) -> str:
    """The error message for a value that names no uploaded image. It says how to upload an image."""
    sources = [value.get("path"), value.get("url")] if isinstance(value, dict) else [value]
    texts = [text for text in sources if isinstance(text, str)]
    if any(map(URL.match, texts)):
        return NO_URLS
    return NO_PATHS if texts else NOT_UPLOADED


def _example_file() -> dict[str, Any]:
    """What `handle_file` would send for the example file. The snippets show its `url`."""
    meta = {"_type": "gradio.FileData"}
    return {"path": EXAMPLE, "url": EXAMPLE, "orig_name": PurePosixPath(EXAMPLE).name, "meta": meta}


def _reject_paths_outside_uploads(value: Any, depth: int = 0) -> None:
    """Raise `ImageError` if a value, at any depth, names a URL or a file that was not uploaded to this server."""
    if depth > MAX_DEPTH:
        raise UserError(INVALID_VALUE)
    if isinstance(value, dict):
        if "path" in value and not (isinstance(value["path"], str) and _is_uploaded(value["path"])):
            raise ImageError(_rejection_reason(value))
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            _reject_paths_outside_uploads(part, depth + 1)


def _is_uploaded(path: str) -> bool:
    try:
        return Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve())
    except (OSError, ValueError):
        return False


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
    return str(address or ""), str(getattr(request, "session_hash", None) or "")


def _gradio_error(sentence: str) -> gr.Error:
    return gr.Error(sentence, duration=ERROR_SECONDS, print_exception=False)
