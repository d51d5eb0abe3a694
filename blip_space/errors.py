"""The exceptions of this package, each with a message for the user.

    Exception
    └── UserError                 invalid input, or a state of this server
        ├── ImageError            a missing, unreadable, too large or unsupported image
        ├── PromptError           a question or a history that cannot be sent
        ├── ModelError            a model that cannot be found, loaded or trusted
        ├── BusyError             a full queue, or a timeout
        ├── EmptyAnswerError      a complete answer without visible text
        ├── RemoteError           another server, which answers for a model, failed
        └── DeviceError           a failed GPU, which this process cannot use any more

A message is one or two full sentences that say how to fix the problem, and may be shown as it is. Its code is stable,
for programs and translations. Every other exception is a bug and keeps its traceback in the log. Must not import any
other module of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Code = Literal[
    "busy", "device_failed", "disk_full", "empty_answer", "forbidden", "internal_error", "invalid_history",
    "invalid_prompt", "invalid_value", "model_unavailable", "no_image", "not_found", "not_uploaded", "prompt_too_long",
    "remote_failed", "remote_unavailable", "stopping", "timed_out", "too_large", "too_many_requests", "unauthorized",
    "unknown_language", "unknown_model", "unreadable_image", "unsupported_language",
]  # fmt: skip

CODES: dict[Code, str] = {
    "busy": "the queue is full, or you have a batch running: try again later",
    "device_failed": "the GPU failed, and this server ends",
    "disk_full": "there is no disk space for an upload: try again later",
    "empty_answer": "the model's answer has no visible text",
    "forbidden": "this server gives out no such file, or takes no request from another site's page",
    "internal_error": "an error of this server, whose log has the details",
    "invalid_history": "the history is not a list of alternating messages with text",
    "invalid_prompt": "the prompt or conversation cannot be read",
    "invalid_value": "an argument has a wrong type or is out of range",
    "model_unavailable": "the model cannot be loaded",
    "no_image": "the call has no image",
    "not_found": "there is no such address, endpoint, file or session",
    "not_uploaded": "an argument names a file that was not uploaded to this server, or a URL, or an upload was deleted",
    "prompt_too_long": "the prompt does not fit the model's context window, or the history is larger than its limit",
    "remote_failed": "the server of a remote model refused the request, or its answer is cut or unreadable",
    "remote_unavailable": "the server of a remote model cannot be reached, refuses the key, or has no such model",
    "stopping": "the server stops: try again when it runs again",
    "timed_out": "the answer, or the request itself, took too long",
    "too_large": "a file, an image, a batch or a request is larger than its limit",
    "too_many_requests": "your key or address sends too many requests a minute, or has too many answers at once",
    "unauthorized": "the request has no valid key",
    "unknown_language": "there is no language of this code",
    "unknown_model": "there is no model of this name here",
    "unreadable_image": "the file is damaged, or of an unsupported format",
    "unsupported_language": "the model does not support this language",
}
"""What each code means, for the documents. A code is never renamed, since programs compare it."""


class UserError(Exception):
    """Invalid input, or a state of this server, with a message that says how to fix it. For translations `detail` names
    the message among those of its code, and `values` are what it has to name, such as a model."""

    code: Code = "invalid_value"
    detail: str = ""
    values: Mapping[str, str | int] = {}

    def __init__(
        self,
        message: object = "",
        *,
        code: Code | None = None,
        detail: str = "",
        values: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if detail:
            self.detail = detail
        if values is not None:
            self.values = values


class ImageError(UserError):
    """The image is missing, unreadable, too large or of an unsupported format."""

    code: Code = "unreadable_image"


class PromptError(UserError):
    """The question or the history cannot be sent as it is."""

    code: Code = "invalid_prompt"


class ModelError(UserError):
    """The model cannot be found, loaded or trusted."""

    code: Code = "model_unavailable"


class BusyError(UserError):
    """The queue is full, or the answer took longer than its timeout."""

    code: Code = "busy"


class EmptyAnswerError(UserError):
    """The model's complete answer has no visible text."""

    code: Code = "empty_answer"


class RemoteError(UserError):
    """The server of a remote model cannot be reached, or gave no whole answer."""

    code: Code = "remote_failed"


class DeviceError(UserError):
    """The GPU failed, and every further computation of this process on it would fail too: end the process with
    `DEVICE_EXIT_CODE`, and start another one."""

    code: Code = "device_failed"


DEVICE_EXIT_CODE = 70
"""`EX_SOFTWARE` of sysexits.h; not 1, which is a mistake of the user."""


def quote(value: object, max_characters: int = 40) -> str:
    """An untrusted value for use in an error message: quoted, escaped, and cut to `max_characters` with …."""
    text = str(value)
    return repr(text if len(text) <= max_characters else f"{text[: max_characters - 1]}…")
