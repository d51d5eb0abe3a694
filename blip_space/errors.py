"""What a person may be told.

Knows nothing of images, models or Gradio. Whatever derives from `UserError` carries one or two full sentences that
name the way out, and may be shown as they are; every other exception is a bug and keeps its traceback in the log.
"""


class UserError(Exception):
    """A mistake, or a state of this server, told in a sentence that names the way out."""


class ImageError(UserError):
    """The picture is missing, unreadable, too large or of a format that is not read."""


class PromptError(UserError):
    """The question or the history cannot be sent as it stands."""


class ModelError(UserError):
    """The model cannot be found, loaded or trusted."""


class BusyError(UserError):
    """The waiting line is full, or the answer took longer than its deadline."""


class EmptyAnswerError(UserError):
    """The model's whole answer holds nothing that is visible."""


def quote(value: object, max_characters: int = 40) -> str:
    """A value of somebody else's as a sentence shows it: in quotes, escaped, and with … where it is cut."""
    text = str(value)
    return repr(text if len(text) <= max_characters else f"{text[: max_characters - 1]}…")
