"""Runs the engine core in the caller's thread, for the commands `ask` and `caption`.

Must not import serving: there is no queue of users here, and no timeout.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

from blip_space.engine.core import EngineCore
from blip_space.engine.output import Output
from blip_space.engine.pixel_cache import PixelCache
from blip_space.engine.request import EngineConfig, PreparedRequest, Request, check_language, prepare

if TYPE_CHECKING:
    from blip_space.models.interface import VisionLanguageModel


class Reply:
    """One answer. Iterating yields the complete text so far, whenever a token adds visible text; with beam search only
    the final text. Raises `UserError` if the answer fails."""

    def __init__(self, outputs: Generator[Output, None, None]) -> None:
        self.tokens = 0
        """The number of tokens so far; final, like `repeats`, when the iteration ends."""

        self.repeats = False
        """Whether the token limit cut the answer off in a loop."""

        self._outputs = outputs

    def __iter__(self) -> Iterator[str]:
        for output in self._outputs:
            if output.error is not None:
                raise output.error
            self.tokens, self.repeats = output.tokens, output.repeats
            yield output.text

    def close(self) -> None:
        """Cancel the rest of the answer."""
        self._outputs.close()


class LocalEngine:
    """Answers requests with one model, in one thread. Recent images and conversations are cached."""

    def __init__(self, model: VisionLanguageModel, config: EngineConfig | None = None) -> None:
        self.model, self.spec, self.precision = model, model.spec, model.precision.name
        self._core = EngineCore(model, config)
        self._pixels = PixelCache(self._core.config.pixel_cache_bytes)
        self._pending: dict[int, Output] = {}
        """The last output of each reply that its iterator has not yielded yet: one step generates for all replies."""

    def generate(self, request: Request) -> Reply:
        """The reply to a request, generated as it is iterated. Raises `UserError` if the request is invalid."""
        check_language(self.model.spec, request.language)
        return Reply(self._outputs(prepare(request, self.model.preparation, self._pixels)))

    def _outputs(self, request: PreparedRequest) -> Generator[Output, None, None]:
        request_id = self._core.add(request)
        try:
            while self._core.has_work or request_id in self._pending:
                output = self._pending.pop(request_id, None)
                if output is None:
                    self._pending.update((output.id, output) for output in self._core.step(time.monotonic()))
                    continue
                yield output
                if output.finished:
                    return
        finally:
            self._core.cancel(request_id)
            self._pending.pop(request_id, None)
