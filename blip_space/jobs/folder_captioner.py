"""A folder's captions by the engine core, in the caller's thread: many at once, each as soon as it is whole.

Depends on the core and on what is asked of an image; must not import files or the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blip_space.engine.output import ANSWER_FAILED, Output
from blip_space.engine.request import (
    EngineConfig,
    PreparedImage,
    PreparedRequest,
    check_language,
    decoding_options,
    prepare_image,
)
from blip_space.errors import UserError
from blip_space.jobs.image_reader import LoadedImage
from blip_space.jobs.records import CaptionTask
from blip_space.models.preparation import ImageInfo, Prompt
from blip_space.options import GenerationOptions

if TYPE_CHECKING:
    from PIL import Image

    from blip_space.engine.core import EngineCore
    from blip_space.models.interface import VisionLanguageModel

SMALL_PARAMETERS = 500_000_000
SMALL_BATCH, LARGE_BATCH = 64, 16
FILL_SHARE = 0.5
CAPTION_FAILED = (
    "The caption failed through a fault of this program, which is in its log. Try again with --retry-errors."
)


@dataclass(frozen=True, eq=False)
class PendingCaption:
    """An image that is here, and what is asked of it."""

    image: LoadedImage
    task: CaptionTask


@dataclass(frozen=True)
class Caption:
    """What came of a wish: a caption with its length and the seconds of its share, or an error. `repeats` says that the
    caption was cut off by its limit in the middle of a loop."""

    pending: PendingCaption
    caption: str | None = None
    tokens: int = 0
    seconds: float = 0.0
    error: str | None = None
    repeats: bool = False


class Captioner:
    """One model at work on a folder."""

    def __init__(self, model: VisionLanguageModel, *, batch_size: int | None) -> None:
        """`batch_size` rows are decoded at once, beams counted; by default as many as pay. Fewer where memory is
        short."""
        from blip_space.models.threads import ALL_THREADS, use_threads  # with torch, which a server does without

        small = model.spec.parameters < SMALL_PARAMETERS
        self._model = model
        self._batch_size = batch_size or (SMALL_BATCH if small else LARGE_BATCH)
        self._core: EngineCore | None = None
        self._asked: dict[int, PendingCaption] = {}
        self._prompts: dict[CaptionTask, Prompt] = {}
        self._since = time.monotonic()
        use_threads(ALL_THREADS)  # which pays for many rows at once; a small model is loaded for few, and takes one

    def prepare(self, image: Image.Image) -> PreparedImage:
        """The pixel values of an image. From any thread."""
        return prepare_image(image, self._model.preparation, GenerationOptions())

    def add(self, wishes: Sequence[PendingCaption]) -> Iterator[Caption]:
        """Take these, and give what is done by now; work goes on once enough wait to fill the batch."""
        for wish in wishes:
            try:
                request = self._request(wish)
            except UserError as error:
                yield Caption(wish, error=str(error))
                continue
            core = self._core = self._core or self._new_core(request.options)
            self._asked[core.add(request)] = wish
        while self._core and self._core.waiting >= self._core.config.max_waiting:
            yield from self._step()

    def finish(self) -> Iterator[Caption]:
        """Do all that was taken."""
        while self._core and self._core.has_work:
            yield from self._step()

    def abort(self) -> None:
        """Forget all that was taken and is not done."""
        if self._core:
            self._core.abort_all()
        self._asked.clear()

    def _new_core(self, options: GenerationOptions) -> EngineCore:
        """A core that fills its batch anew when half of it is free, since nobody watches a caption grow."""
        groups = max(1, self._batch_size // (options.num_beams if options.quality == "best" else 1))
        config = EngineConfig(
            max_batch_size=self._batch_size,
            max_beam_groups=self._batch_size,
            max_rows=self._batch_size,
            max_waiting=groups,
            max_prefill_tokens=self._batch_size * self._model.spec.context_tokens,
            min_free_share=FILL_SHARE,
        )
        from blip_space.engine.core import EngineCore  # with torch, which a server's page does without

        return EngineCore(self._model, config)

    def _step(self) -> Iterator[Caption]:
        assert self._core is not None
        ended = [output for output in self._core.step(time.monotonic()) if output.finished]
        if ended:
            seconds = self._seconds(len(ended))
            yield from (_written(self._asked.pop(output.id), output, seconds) for output in ended)

    def _request(self, wish: PendingCaption) -> PreparedRequest:
        task, seen = wish.task, wish.image
        key = self._model.preparation.feature_key(seen.digest or "", task.options)
        prompt = self._prompt(task, seen.prepared).with_image_keys(key)
        options = decoding_options(task.options, task.prompt)
        return PreparedRequest(self._model.spec, prompt, (seen.prepared.pixels,), options)

    def _prompt(self, task: CaptionTask, image: PreparedImage) -> Prompt:
        """The prompt of all images of that size."""
        if prompt := self._prompts.get(task):
            return prompt
        check_language(self._model.spec, task.language)
        preparation, info = self._model.preparation, ImageInfo("", image.width, image.height)
        prompt = preparation.prepare([info], (), task.prompt, language=task.language, options=task.options)
        if not preparation.positions_depend_on_size:
            self._prompts[task] = prompt
        return prompt

    def _seconds(self, count: int) -> float:
        """The seconds since the last caption, shared by those that ended together."""
        now, before = time.monotonic(), self._since
        self._since = now
        return (now - before) / count


def _written(wish: PendingCaption, output: Output, seconds: float) -> Caption:
    if output.error is not None:
        sentence = str(output.error)
        return Caption(wish, seconds=seconds, error=CAPTION_FAILED if sentence == ANSWER_FAILED else sentence)
    return Caption(wish, output.text, output.tokens, seconds, repeats=output.repeats)
