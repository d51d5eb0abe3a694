"""The engine core in the caller's own thread: for the library, for commands, and for a process forked for one call.

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
    """One answer. Iterate it for the whole text so far, after every token that shows something new; a beam search
    yields its end only. Raises the `UserError` that there is in place of an answer. `close` stops it."""

    def __init__(self, outputs: Generator[Output, None, None]) -> None:
        self.tokens = 0
        """How many there are; like `repeats` known at the end."""

        self.repeats = False
        """Whether it was cut off by its limit in the middle of a loop."""

        self._outputs = outputs

    def __iter__(self) -> Iterator[str]:
        for output in self._outputs:
            if output.error is not None:
                raise output.error
            self.tokens, self.repeats = output.tokens, output.repeats
            yield output.text

    def close(self) -> None:
        """Generate no further token."""
        self._outputs.close()


class LocalEngine:
    """One model, asked by one thread. Images and conversations that were asked about before are not computed again."""

    def __init__(self, model: VisionLanguageModel, config: EngineConfig | None = None) -> None:
        self.model = model
        self._core = EngineCore(model, config)
        self._pixels = PixelCache(self._core.config.pixel_cache_bytes)
        self._unread: dict[int, Output] = {}
        """The last output of each reply that was not iterated since: all of them are generated together."""

    def generate(self, request: Request) -> Reply:
        """The reply to a request, generated as it is iterated. `UserError` where it cannot be asked."""
        check_language(self.model.spec, request.language)
        return Reply(self._follow(prepare(request, self.model.preparation, self._pixels)))

    def _follow(self, request: PreparedRequest) -> Generator[Output, None, None]:
        request_id = self._core.add(request)
        try:
            while self._core.has_work or request_id in self._unread:
                output = self._unread.pop(request_id, None)
                if output is None:
                    self._unread.update((output.id, output) for output in self._core.step(time.monotonic()))
                    continue
                yield output
                if output.finished:
                    return
        finally:
            self._core.cancel(request_id)
            self._unread.pop(request_id, None)
