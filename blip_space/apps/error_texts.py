"""What a user of the page reads when an event fails, and as the reason of a decision: a sentence for each code of
`errors` and of a `Reason`, in the user's language.

English has their own sentences, which programs read as well, except where the page has plainer words. The page's
script (notes.js) shows a message where it belongs, by its code. Depends on the page's texts.
"""

from __future__ import annotations

import html
import json
import re

from blip_space.apps import locales
from blip_space.errors import UserError
from blip_space.languages import LANGUAGES
from blip_space.reasons import Reason

PLAIN = frozenset({"no_image", "not_uploaded", "prompt_too_long", "unsupported_language"})
"""The codes for which the page has words of its own in English too, since their sentences name what only programs
know: tokens, options, models of other servers."""


class PageError(UserError):
    """An error with a message in the user's language already."""


def describe(error: UserError) -> str:
    """The sentence for the user whose event runs; outside of the page's events the error's own."""
    locale = locales.current_locale.get()
    if locale is None or isinstance(error, PageError):
        return str(error)
    if locales.reads_english() and error.code not in PLAIN:
        return str(error)
    values = {**error.values}
    if language := LANGUAGES.get(str(values.get("language"))):
        values["language"] = language.own_name
    key = f"error_{error.code}_{error.detail}"
    detailed = locale.text(key, **values) if key in locales.english().texts else ""
    return detailed if detailed and not re.search(r"\{\w+\}", detailed) else locale.text(f"error_{error.code}")


def explain(reason: str) -> str:
    """A reason for the user whose page is rendered. In another language than English it is empty without a code."""
    if locales.reads_english():
        return str(reason)
    if not isinstance(reason, Reason):
        return ""
    if reason.parts:
        return " · ".join(filter(None, map(explain, reason.parts)))
    return locales.text(f"reason_{reason.code}", **reason.values) if reason.code else ""


SEPARATOR = "\u2063"
"""An invisible character, before and after the fields of a message."""


def notice(code: str, sentence: str, **fields: str) -> str:
    """A message for the page's script: its code, `fields` for what can be done about it, and the sentence. Gradio takes
    it for HTML."""
    return html.escape(f"{SEPARATOR}{json.dumps({'code': code, **fields})}{SEPARATOR}{sentence}")
