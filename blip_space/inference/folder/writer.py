"""Captions written many at once: pictures are encoded together, rows join as others end, searches go in groups.

Knows a model and what is wished of it; knows no file and no ledger.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from blip_space.errors import UserError
from blip_space.inference.folder.reader import Seen
from blip_space.inference.folder.record import Task
from blip_space.inference.judgement import judge
from blip_space.inference.request import composed
from blip_space.inference.text import Excerpt, excerpt
from blip_space.options import ANSWER_LENGTH_PENALTY
from blip_space.prompts import STYLES, clean, is_question

if TYPE_CHECKING:
    from PIL import Image

    from blip_space.model.blip2 import Blip2
    from blip_space.model.writing import Prompt, Row, Writing

log = logging.getLogger(__name__)

SMALL_PARAMETERS = 500_000_000
SMALL_BATCH, LARGE_BATCH = 64, 16
FAULT = "The caption failed through a fault of this program, which is in its log. Try again with --retry-errors."


@dataclass(frozen=True, eq=False)
class Wish:
    """A picture that is here, and what is asked of it."""

    seen: Seen
    task: Task


@dataclass(frozen=True)
class Written:
    """What came of a wish: a caption with its length and the seconds of its share, or an error. `repeats` says that the
    caption was cut off by its limit in the middle of a loop."""

    wish: Wish
    caption: str | None = None
    tokens: int = 0
    seconds: float = 0.0
    error: str | None = None
    repeats: bool = False


class Writer:
    """One model at work on a folder."""

    def __init__(self, model: Blip2, *, batch_size: int | None) -> None:
        small = model.spec.parameters < SMALL_PARAMETERS
        self._model = model
        self._most = batch_size or min(model.rows_that_fit(), SMALL_BATCH if small else LARGE_BATCH)
        self._waiting: list[Wish] = []
        self._running: OrderedDict[int, tuple[Wish, Row]] = OrderedDict()
        self._writing: Writing | None = None
        self._texts: dict[Task, str] = {}
        self._stops = STYLES[model.spec.style].stops
        self._since = time.monotonic()
        model.expect_many()

    def prepare(self, picture: Image.Image) -> Any:
        """What this model takes of a picture. From any thread."""
        return self._model.pixels([picture])

    def add(self, wishes: Sequence[Wish]) -> Iterator[Written]:
        """Take these, and give what is done by now; work begins once there is enough for a batch."""
        self._waiting += wishes
        while len(self._waiting) >= self._most - len(self._running) // 2:
            yield from self._work()

    def finish(self) -> Iterator[Written]:
        """Do all that was taken."""
        while self._waiting or self._running:
            yield from self._work()

    def _work(self) -> Iterator[Written]:
        """A group of searches, or one token of every row."""
        if self._waiting and self._waiting[0].task.options.quality == "best":
            yield from self._search(self._take_searches())
            return
        free = self._most - len(self._running)
        if self._waiting and free and (free >= self._most // 2 or not self._running):
            wishes, self._waiting = self._waiting[:free], self._waiting[free:]
            yield from self._join(wishes)
        elif self._running:
            yield from self._step()

    def _join(self, wishes: list[Wish]) -> Iterator[Written]:
        try:
            prompts, told = self._prompts(wishes)
            if prompts:
                self._writing = self._writing or self._model.writing()
                rows = self._writing.join([prompt for _, prompt in prompts])
                for (wish, _), row in zip(prompts, rows, strict=True):
                    self._running[id(row)] = (wish, row)
        except Exception as error:
            yield from self._one_by_one(self._join, wishes, error)
            return
        yield from told
        yield from self._ended()

    def _step(self) -> Iterator[Written]:
        assert self._writing is not None
        try:
            self._writing.step()
        except Exception as error:
            yield from self._recover([], error)
            return
        yield from self._ended()

    def _ended(self) -> Iterator[Written]:
        """What is whole now."""
        for place, (wish, row) in list(self._running.items()):
            part = self._excerpt(row.ids, finished=row.ended)
            if row.fault:
                log.error("a caption failed", exc_info=row.fault)
                yield Written(wish, error=FAULT)
            elif row.ended or part.stopped:
                yield _judged(wish, part, row.ids, self._spent())
            else:
                continue
            row.ended = True
            del self._running[place]

    def _excerpt(self, ids: Sequence[int], *, finished: bool) -> Excerpt:
        return excerpt(self._model.decode(ids), self._stops, finished=finished)

    def _take_searches(self) -> list[Wish]:
        """The first wishes that are searched for in the same way."""
        first = self._waiting[0].task.options
        most = max(1, self._most // first.num_beams)
        group = [wish for wish in self._waiting if wish.task.options == first][:most]
        self._waiting = [wish for wish in self._waiting if wish not in group]
        return group

    def _search(self, wishes: list[Wish]) -> Iterator[Written]:
        try:
            prompts, told = self._prompts(wishes)
            found = self._model.search([prompt for _, prompt in prompts], should_stop=lambda: False) if prompts else []
        except Exception as error:
            yield from self._one_by_one(self._search, wishes, error)
            return
        yield from told
        spent = self._spent(len(prompts))
        for (wish, _), ids in zip(prompts, found, strict=True):
            yield _judged(wish, self._excerpt(ids, finished=True), ids, spent)

    def _one_by_one(
        self, write: Callable[[list[Wish]], Iterator[Written]], wishes: list[Wish], error: Exception
    ) -> Iterator[Written]:
        """What went wrong with one of these ends that one alone, so each is tried again by itself."""
        if self._model.ran_out(error):
            yield from self._recover(wishes, error)
        elif len(wishes) > 1:
            for wish in wishes:
                yield from write([wish])
        else:
            log.error("a caption failed", exc_info=error)
            yield Written(wishes[0], error=FAULT)

    def _prompts(self, wishes: Sequence[Wish]) -> tuple[list[tuple[Wish, Prompt]], list[Written]]:
        """The wishes with their prompts, equal pictures encoded once; and those that no prompt can be made of."""
        good, bad = [], []
        for wish in wishes:
            try:
                good.append((wish, self._text(wish.task)))
            except UserError as error:
                bad.append(Written(wish, error=str(error)))
        prefixes = self._encoded([wish for wish, _ in good])
        return [
            (wish, self._model.prompt(prefixes[wish.seen.digest], text, _decoding(wish.task))) for wish, text in good
        ], bad

    def _encoded(self, wishes: Sequence[Wish]) -> dict[str | None, Any]:
        pictures = {wish.seen.digest: wish.seen.prepared for wish in wishes}
        if not pictures:
            return {}
        made = self._model.encode_pixels(list(pictures.values()))
        return {digest: made[place : place + 1] for place, digest in enumerate(pictures)}

    def _text(self, task: Task) -> str:
        if task not in self._texts:
            self._texts[task] = composed(
                self._model,
                prompt=task.prompt,
                language=task.language,
                turns=(),
                max_new_tokens=task.options.max_new_tokens,
            ).text
        return self._texts[task]

    def _recover(self, wishes: Sequence[Wish], error: Exception) -> Iterator[Written]:
        """Memory ran out: smaller batches from here on, and these again. Anything else ends them."""
        lost = [*wishes, *(wish for wish, _ in self._running.values())]
        self._running.clear()
        self._writing = None
        if self._model.ran_out(error) and self._most > 1:
            self._most = max(1, self._most // 2)
            log.warning("memory ran out; from here on %d captions are written at once", self._most)
            self._waiting = [*lost, *self._waiting]
            return
        log.error("captions failed", exc_info=error)
        for wish in lost:
            yield Written(wish, error=FAULT)

    def _spent(self, count: int = 1) -> float:
        """The seconds since the last caption, shared by those that ended together."""
        now, before = time.monotonic(), self._since
        self._since = now
        return (now - before) / max(1, count)


def _judged(wish: Wish, part: Excerpt, ids: Sequence[int], seconds: float) -> Written:
    """A whole caption, or the error of one that shows nothing."""
    try:
        judged = judge(part, ids, max_new_tokens=wish.task.options.max_new_tokens)
    except UserError as error:
        return Written(wish, seconds=seconds, error=str(error))
    return Written(wish, judged.text, judged.tokens, seconds, repeats=judged.repeats)


def _decoding(task: Task) -> Any:
    if task.options.quality == "best" and is_question(clean(task.prompt)):
        return replace(task.options, length_penalty=ANSWER_LENGTH_PENALTY)
    return task.options
