"""What a visitor may never do, in one place.

Gradio hands a handler whatever a caller sent, opens any picture path that comes without its `meta`, fetches addresses
and, where a shape is wrong, answers with its own words. `SecureBlocks` stands around every event of the page and the API:
before it, no value may name a file that was not uploaded here; after it, whatever went wrong is one sentence.

Knows Gradio's payloads and errors; knows nothing of models, prompts or of what the events do.
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
from blip_space.images import FORMAT_NAMES, MAX_UPLOAD_BYTES, ImageFile, read_file

log = logging.getLogger(__name__)

NO_IMAGE = f"There is no picture yet. Add a {FORMAT_NAMES.replace(' and ', ' or ')} file first."
WAY_TO_SEND = 'send the file: handle_file("picture.png"), with handle_file from gradio_client.'
NOT_UPLOADED = f"That is no uploaded picture. Instead {WAY_TO_SEND}"
NO_ADDRESSES = (
    f"That is no uploaded picture but an address, and this server fetches none. Download it first, then {WAY_TO_SEND}"
)
NO_PATHS = (
    "That is no uploaded picture but a path or a text, and no file is read here that was not sent. "
    f"If it names a file on your machine, {WAY_TO_SEND}"
)
ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
EXAMPLE = "assets/examples/octopus.png"
"""What the API page's snippets send: a picture of this project, so that they work where the README's do."""

INVALID_VALUE = "A value of this call has the wrong type or shape. The API page lists what each parameter takes."
INTERNAL_ERROR = "Something went wrong on the server; its log says what. Try again."
SECONDS_SHOWN = 15
MAX_SOUND = 1_000
"""Of so many images it is known that they can be decoded, so that choosing one and asking about it decodes it once."""

_sound: dict[str, None] = {}
"""Their digests, the oldest first."""

MAX_DEPTH = 50
"""Nested deeper than any value of ours, whose deepest are a conversation's messages."""


class SecureBlocks(gr.Blocks):  # type: ignore[misc]  # Gradio is not followed, so its classes are Any
    """Blocks whose every event takes only uploaded files and fails only in sentences."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *arguments: Any, **options: Any) -> Any:
        """Gradio's, once the values are known to be harmless."""
        inputs = _filled(block_fn, inputs)
        _refuse_foreign_files(inputs)
        try:
            return await super().preprocess_data(block_fn, inputs, *arguments, **options)
        except Exception as error:
            log.info("a call of %s was refused: %s", block_fn.api_name, type(error).__name__)
            raise UserError(INVALID_VALUE) from None

    async def process_api(self, *arguments: Any, **options: Any) -> Any:
        """Gradio's, with a `UserError` told as it is and everything else logged and told as our fault."""
        try:
            return await super().process_api(*arguments, **options)
        except gr.Error:
            raise
        except UserError as error:
            raise _told(str(error)) from None
        except Exception:
            log.exception("an event of the page failed")
            raise _told(INTERNAL_ERROR) from None


def unvalidated(component: Any, schema: dict[str, Any]) -> Any:
    """The component, its value handed on as it was sent: its handler judges it. `schema` is what clients are told.

    Set on the instance, because a subclass of a component makes Gradio write a file beside the source.
    """
    component.data_model = None
    component.api_info = lambda: schema
    return component


def with_example(component: Any, value: Any) -> Any:
    """The component, with what the snippets of the API page give it; Gradio's own examples are not ours to answer."""
    component.example_payload = component.example_value = lambda: value
    return component


def added_later(component: Any) -> Any:
    """The component of a parameter that an endpoint did not have from the beginning: a call that lists its values
    without this one is as good as before, and gets the default."""
    component.added_later = True
    return component


def image_input(**looks: Any) -> Any:
    """An image input whose value `parse_image` judges."""
    schema = ImageData.model_json_schema()
    schema.pop("description", None)
    schema["additional_description"] = "a file on your machine, by handle_file(...); addresses are not read"
    return with_example(unvalidated(gr.Image(type="filepath", **looks), schema), _example_file())


def parse_image(value: Any) -> ImageFile:
    """The uploaded image that a raw value names, not decoded yet; `ImageError` for none, an address or a file of the
    server."""
    if value is None:
        raise ImageError(NO_IMAGE)
    return ImageFile(read_file(_uploaded(value), max_bytes=MAX_UPLOAD_BYTES))


def check_image(value: Any) -> None:
    """`ImageError` where the raw value names no image that can be decoded; each is decoded for that once."""
    image = parse_image(value)
    if image.digest not in _sound:
        with image.open():
            _sound[image.digest] = None
        while len(_sound) > MAX_SOUND:
            _sound.pop(next(iter(_sound)), None)


def files_input(**looks: Any) -> Any:
    """An input of many files, whose value `parse_files` judges."""
    described = "files on your machine, each by handle_file(...), or a zip of them; addresses are not read"
    schema = ListFiles.model_json_schema() | {"additional_description": described}
    return with_example(unvalidated(gr.File(file_count="multiple", **looks), schema), [_example_file()])


def parse_files(value: Any) -> list[tuple[str, Path]]:
    """The uploaded files that a raw value names: what each is called on its owner's machine, and where it lies."""
    given = [value] if isinstance(value, dict) else value or []
    if not isinstance(given, list):
        raise ImageError(_why_not(given))
    return [(_own_name(file), _uploaded(file)) for file in given]


def _own_name(file: Any) -> str:
    name = file.get("orig_name") if isinstance(file, dict) else None
    told = name.encode("utf-8", "replace").decode() if isinstance(name, str) else ""
    return PurePosixPath(told.replace("\\", "/")).name or _uploaded(file).name


def _uploaded(value: Any) -> Path:
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str) or not _is_uploaded(path):
        raise ImageError(_why_not(value))
    return Path(path)


def _why_not(value: Any) -> str:
    """Why this is no uploaded picture, and what is."""
    named = [value.get("path"), value.get("url")] if isinstance(value, dict) else [value]
    texts = [text for text in named if isinstance(text, str)]
    if any(map(ADDRESS.match, texts)):
        return NO_ADDRESSES
    return NO_PATHS if texts else NOT_UPLOADED


def _example_file() -> dict[str, Any]:
    """As `handle_file` makes it; the snippets show `url`."""
    meta = {"_type": "gradio.FileData"}
    return {"path": EXAMPLE, "url": EXAMPLE, "orig_name": PurePosixPath(EXAMPLE).name, "meta": meta}


def _refuse_foreign_files(value: Any, depth: int = 0) -> None:
    """`ImageError` where a value, however deep, names a file that was not uploaded here, or an address."""
    if depth > MAX_DEPTH:
        raise UserError(INVALID_VALUE)
    if isinstance(value, dict):
        if "path" in value and not (isinstance(value["path"], str) and _is_uploaded(value["path"])):
            raise ImageError(_why_not(value))
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            _refuse_foreign_files(part, depth + 1)


def _is_uploaded(path: str) -> bool:
    try:
        return Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve())
    except (OSError, ValueError):
        return False


def _filled(block_fn: Any, inputs: list[Any]) -> list[Any]:
    """The values of a call, with the defaults of parameters that came later; `UserError` where others are missing."""
    missing = block_fn.inputs[len(inputs) :]
    if not all(getattr(component, "added_later", False) for component in missing):
        raise UserError(_too_few(block_fn, len(inputs)))
    return [*inputs, *(component.value for component in missing)]


def _too_few(block_fn: Any, given: int) -> str:
    wanted = len(block_fn.inputs)
    return f"The call has {given} of {wanted} values. The API page lists them in their order."


def _told(sentence: str) -> gr.Error:
    return gr.Error(sentence, duration=SECONDS_SHOWN, print_exception=False)
