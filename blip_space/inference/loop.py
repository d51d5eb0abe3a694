"""One request answered in the caller's own thread: picture, prompt, tokens, text.

Knows the order of things for one request; knows no queue, no thread and no other visitor. Commands run it, and so may
a process that was forked for one call; the engine's worker writes many at once instead.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING

from blip_space.inference.judgement import judge
from blip_space.inference.request import Request, composed, search_options
from blip_space.inference.text import Excerpt, excerpt
from blip_space.prompts import STYLES

if TYPE_CHECKING:  # the page is up before torch is imported
    from blip_space.model.blip2 import Blip2
    from blip_space.model.features import PrefixCache


class Reply:
    """Iterate it for the whole text so far, after every token; the same text again where a token shows nothing yet.

    A search yields its end only. Ends with `EmptyAnswerError` where the model wrote nothing. `close` stops it.
    """

    def __init__(
        self, model: Blip2, request: Request, prefixes: PrefixCache, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        self.tokens = 0
        """How many were written; like `repeats` known at the end."""

        self.repeats = False
        """Whether it was cut off by its limit in the middle of a loop."""

        self._model = model
        self._request = request
        self._stops = STYLES[model.spec.style].stops
        self._texts = self._written(prefixes, should_stop)

    def __iter__(self) -> Iterator[str]:
        return self._texts

    def close(self) -> None:
        """Write no further token."""
        self._texts.close()

    def _written(self, prefixes: PrefixCache, should_stop: Callable[[], bool]) -> Generator[str, None, None]:
        model, request = self._model, self._request
        made = composed(
            model,
            prompt=request.prompt,
            language=request.language,
            turns=request.turns,
            max_new_tokens=request.options.max_new_tokens,
        )
        key = (request.image.digest, model.spec.name, model.precision.name)
        prefix = prefixes.get_or_encode(key, lambda: model.encode([request.image.pixels]))
        if request.options.quality == "best":
            (found,) = model.search([model.prompt(prefix, made.text, search_options(request))], should_stop=should_stop)
            yield self._judged(self._excerpt(found, finished=True), found)
            return
        ids: list[int] = []
        part = self._excerpt(ids)
        for token in model.stream(model.prompt(prefix, made.text, request.options)):
            ids.append(token)
            part = self._excerpt(ids)
            if part.stopped:
                break
            yield part.text
        yield self._judged(part if part.stopped else self._excerpt(ids, finished=True), ids)

    def _excerpt(self, ids: Sequence[int], *, finished: bool = False) -> Excerpt:
        return excerpt(self._model.decode(ids), self._stops, finished=finished)

    def _judged(self, part: Excerpt, ids: Sequence[int]) -> str:
        judged = judge(part, ids, max_new_tokens=self._request.options.max_new_tokens)
        self.tokens, self.repeats = judged.tokens, judged.repeats
        return judged.text


def answer(
    model: Blip2, request: Request, *, prefixes: PrefixCache, should_stop: Callable[[], bool] = lambda: False
) -> Reply:
    """The reply to a request, written as it is iterated. `should_stop` is asked during a search, which then ends with
    what is best by then; a stream is stopped by `close`."""
    return Reply(model, request, prefixes, should_stop)
