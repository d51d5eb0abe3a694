"""One request answered in the caller's own thread: picture, prompt, tokens, text.

Knows the order of things for one request; knows no queue, no thread and no other visitor. Commands run it, and so may
a process that was forked for one call; the engine's worker writes many at once instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from blip_space.inference.request import Request, composed, search_options
from blip_space.inference.text import excerpt
from blip_space.prompts import STYLES

if TYPE_CHECKING:  # the page is up before torch is imported
    from blip_space.model.blip2 import Blip2
    from blip_space.model.features import PrefixCache


def answer(
    model: Blip2, request: Request, *, prefixes: PrefixCache, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[str]:
    """The whole text so far, after every token; the same text again where a token shows nothing yet.

    `should_stop` is asked during a search, which yields only its end; a stream is stopped by closing the generator.
    """
    made = composed(
        model,
        prompt=request.prompt,
        language=request.language,
        turns=request.turns,
        max_new_tokens=request.options.max_new_tokens,
    )
    key = (request.image.digest, model.spec.name, model.precision.name)
    prefix = prefixes.get_or_encode(key, lambda: model.encode([request.image.pixels]))
    stops = STYLES[model.spec.style].stops
    if request.options.quality == "best":
        (found,) = model.search([model.prompt(prefix, made.text, search_options(request))], should_stop=should_stop)
        yield excerpt(model.decode(found), stops, finished=True).text
        return
    ids: list[int] = []
    for token in model.stream(model.prompt(prefix, made.text, request.options)):
        ids.append(token)
        part = excerpt(model.decode(ids), stops)
        yield part.text
        if part.stopped:
            return
    yield excerpt(model.decode(ids), stops, finished=True).text
