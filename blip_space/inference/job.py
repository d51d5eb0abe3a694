"""One request on its way through the engine: its prompt, its row while it is written, and what was shown of it.

Knows one request and its text; knows no queue and no other job.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from blip_space.catalogue import ModelSpec
from blip_space.serving.response import ResponseStream
from blip_space.inference.judgement import judge
from blip_space.inference.request import Request, composed, search_options
from blip_space.inference.text import Excerpt, excerpt
from blip_space.prompts import STYLES, Composition

if TYPE_CHECKING:
    from blip_space.model.blip2 import Blip2
    from blip_space.model.features import FeatureKey, PrefixCache
    from blip_space.model.writing import Parked, Prompt, Row


@dataclass(eq=False)
class Job:
    """A request, where it goes, and how far it is."""

    request: Request
    spec: ModelSpec
    answer: ResponseStream
    since: float = field(default_factory=time.monotonic)
    tries: int = 0
    made: Composition | None = None
    row: Row | None = None
    parked: Parked | None = None
    seen: int = 0
    """How many of its tokens were counted."""

    shown: int = 0
    """How many characters of it the visitor has."""

    begun: int = 0
    """How many of its tokens there were when it was let in last."""

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.answer.done

    @property
    def model(self) -> str:
        """The name of the model that is to answer."""
        return self.spec.name

    @property
    def taken(self) -> int:
        """How many tokens were written since it was let in last."""
        return len(self.row.ids) - self.begun if self.row else 0

    @property
    def searches(self) -> bool:
        """Whether it wants a search, which has no row and no stream."""
        return self.request.options.quality == "best"

    @property
    def guest(self) -> bool:
        """Whether visitors come before it."""
        return self.request.background

    @property
    def text(self) -> str:
        """The whole prompt; it was composed before."""
        assert self.made is not None
        return self.made.text

    def begin_again(self) -> None:
        """Forget the row; the answer is written anew, and shown once it is longer than what was shown."""
        self.row, self.parked, self.begun, self.seen = None, None, 0, 0

    def key(self, model: Blip2) -> FeatureKey:
        """What the picture's prefix depends on."""
        return self.request.image.digest, model.spec.name, model.precision.name

    def compose(self, model: Blip2) -> int:
        """Compose the prompt, once; how many positions are to be read. A `UserError` says what is wrong with it."""
        if self.parked is not None:
            return 0
        if self.made is None:
            asked = self.request
            self.made = composed(
                model,
                prompt=asked.prompt,
                language=asked.language,
                turns=asked.turns,
                max_new_tokens=asked.options.max_new_tokens,
            )
        if self.request.turns and not self.searches:
            return model.unread(self.made.text, picture=self.request.image.digest)
        return model.query_tokens + self.made.tokens

    def tell(self, model: Blip2) -> bool:
        """Show what its row has written so far; whether that is all. `EmptyAnswerError` where all of it is nothing."""
        assert self.row is not None
        part = self._excerpt(model, self.row.ids, finished=self.row.ended)
        is_whole = self.row.ended or part.stopped
        if is_whole:
            self._judge(part, self.row.ids)
        self.answer.tokens = len(self.row.ids)
        if len(part.text) >= self.shown or is_whole:
            self.answer.publish(part.text)
            self.shown = len(part.text)
        return is_whole

    def tell_found(self, model: Blip2, ids: list[int]) -> None:
        """Show what a search found; `EmptyAnswerError` where that is nothing."""
        part = self._excerpt(model, ids, finished=True)
        self._judge(part, ids)
        self.answer.tokens = len(ids)
        self.answer.publish(part.text)

    def _excerpt(self, model: Blip2, ids: Sequence[int], *, finished: bool) -> Excerpt:
        return excerpt(model.decode(ids), STYLES[self.spec.style].stops, finished=finished)

    def _judge(self, part: Excerpt, ids: Sequence[int]) -> None:
        """Before the whole text is shown, so that who sees it also sees what is known of it."""
        judged = judge(part, ids, max_new_tokens=self.request.options.max_new_tokens)
        self.answer.repeats = judged.repeats


def prompts(model: Blip2, jobs: Sequence[Job], prefixes: PrefixCache) -> list[Prompt]:
    """What each job's answer follows; pictures that are new to the model are encoded as one batch."""
    keys = [job.key(model) for job in jobs]
    pictures = {key: job.request.image.pixels for key, job in zip(keys, jobs, strict=True)}
    known = prefixes.get_or_encode_all(pictures, model.encode)
    return [_prompt(model, job, known[key]) for key, job in zip(keys, jobs, strict=True)]


def _prompt(model: Blip2, job: Job, prefix: Any) -> Prompt:
    if job.searches:
        return model.prompt(prefix, job.text, search_options(job.request))
    picture, goes_on = job.request.image.digest, bool(job.request.turns)
    return model.prompt(prefix, job.text, job.request.options, picture=picture, goes_on=goes_on)
