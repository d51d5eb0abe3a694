"""The exceptions of this package, each with a message for the user.

    Exception
    └── UserError                 invalid input, or a state of this server
        ├── ImageError            a missing, unreadable, too large or unsupported image
        ├── PromptError           a question or a history that cannot be sent
        ├── ModelError            a model that cannot be found, loaded or trusted
        ├── BusyError             a full queue, or a timeout
        ├── EmptyAnswerError      a complete answer without visible text
        └── DeviceError           a failed GPU, which this process cannot use any more

A message is one or two full sentences that say how to fix the problem, and may be shown as it is. Every other exception
is a bug and keeps its traceback in the log. Must not import any other module of this package.
"""


class UserError(Exception):
    """Invalid input, or a state of this server, with a message that says how to fix it."""


class ImageError(UserError):
    """The image is missing, unreadable, too large or of an unsupported format."""


class PromptError(UserError):
    """The question or the history cannot be sent as it is."""


class ModelError(UserError):
    """The model cannot be found, loaded or trusted."""


class BusyError(UserError):
    """The queue is full, or the answer took longer than its timeout."""


class EmptyAnswerError(UserError):
    """The model's complete answer has no visible text."""


class DeviceError(UserError):
    """The GPU failed, and every further computation of this process on it would fail too: end the process with
    `DEVICE_EXIT_CODE`, and start another one."""


DEVICE_EXIT_CODE = 70
"""`EX_SOFTWARE` of sysexits.h; not 1, which is a mistake of the user."""


def quote(value: object, max_characters: int = 40) -> str:
    """An untrusted value for use in an error message: quoted, escaped, and cut to `max_characters` with …."""
    text = str(value)
    return repr(text if len(text) <= max_characters else f"{text[: max_characters - 1]}…")
