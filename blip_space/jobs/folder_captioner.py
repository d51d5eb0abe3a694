"""Captions for a folder job: many at once, by an engine core in the caller's thread.

Depends on the engine core and on loaded images; must not import anything that reads or writes files.
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
from blip_space.errors import DeviceError, UserError
from blip_space.jobs.image_reader import LoadedImage
from blip_space.jobs.records import CaptionTask, Key
from blip_space.models.preparation import ImageInfo, Prompt
from blip_space.options import GenerationOptions

if TYPE_CHECKING:
    from PIL import Image

    from blip_space.engine.core import EngineCore
    from blip_space.models.interface import VisionLanguageModel

MIN_FREE_SHARE = 0.5
CAPTION_FAILED = "The caption failed because of an internal error; the log has it. Try again with --retry-errors."


@dataclass(frozen=True, eq=False)
class PendingCaption:
    """A loaded image, and the caption to generate for it."""

    image: LoadedImage
    task: CaptionTask

    @property
    def key(self) -> Key:
        """What the caption depends on; see `CaptionTask.key`."""
        return self.task.key(self.image.digest or "")


@dataclass(frozen=True)
class Caption:
    """A caption with its tokens and its share of the time, or an error; `repeats` if its limit cut it off in a loop."""

    pending: PendingCaption
    caption: str | None = None
    tokens: int = 0
    seconds: float = 0.0
    error: str | None = None
    repeats: bool = False


class Captioner:
    """Captions images with one model."""

    def __init__(self, model: VisionLanguageModel, *, batch_size: int | None) -> None:
        """At most `batch_size` sequences (beams counted) are decoded at once, fewer where memory is short. The default
        depends on the model, the device and its memory."""
        from blip_space.engine.batch_size import folder_batch_size  # imports torch
        from blip_space.models.threads import ALL_THREADS, use_threads

        self.batch_size = batch_size or folder_batch_size(model)
        self._model = model
        self._core: EngineCore | None = None
        self._pending: dict[int, PendingCaption] = {}
        self._prompts: dict[CaptionTask, Prompt] = {}
        self._last_finished_at = time.monotonic()
        use_threads(ALL_THREADS)  # a small model is loaded to use one, which suits small batches

    def prepare(self, image: Image.Image) -> PreparedImage:
        """Resize an image to pixel values. Called from any thread."""
        return prepare_image(image, self._model.preparation, GenerationOptions())

    def add(self, pending_captions: Sequence[PendingCaption]) -> Iterator[Caption]:
        """Queue captions and yield those that finish meanwhile; decodes once enough are queued to fill the batch.
        Raises `DeviceError` if the GPU fails, as `finish` does: no error of the images that were decoded."""
        for pending in pending_captions:
            try:
                request = self._request(pending)
            except UserError as error:
                yield Caption(pending, error=str(error))
                continue
            core = self._core = self._core or self._new_core(request.options)
            self._pending[core.add(request)] = pending
        while self._core and self._core.waiting >= self._core.config.max_waiting:
            yield from self._step()

    def finish(self) -> Iterator[Caption]:
        """Generate all queued captions."""
        while self._core and self._core.has_work:
            yield from self._step()

    def abort(self) -> None:
        """Drop all unfinished captions."""
        if self._core:
            self._core.abort_all()
        self._pending.clear()

    def _new_core(self, options: GenerationOptions) -> EngineCore:
        """A core that refills its batch when half of it is free: nothing is streamed, so large prefills are best."""
        groups = max(1, self.batch_size // (options.num_beams if options.quality == "best" else 1))
        config = EngineConfig(
            max_batch_size=self.batch_size,
            max_beam_groups=self.batch_size,
            max_rows=self.batch_size,
            max_waiting=groups,
            max_prefill_tokens=self.batch_size * self._model.spec.context_tokens,
            min_free_share=MIN_FREE_SHARE,
        )
        from blip_space.engine.core import EngineCore  # imports torch

        return EngineCore(self._model, config)

    def _step(self) -> Iterator[Caption]:
        assert self._core is not None
        outputs = self._core.step(time.monotonic())
        finished = [output for output in outputs if output.finished and not isinstance(output.error, DeviceError)]
        if finished:
            now, previous = time.monotonic(), self._last_finished_at
            self._last_finished_at = now
            seconds = (now - previous) / len(finished)  # shared by captions that finish together
            yield from (_to_caption(self._pending.pop(output.id), output, seconds) for output in finished)
        if self._core.device_error:
            raise DeviceError(self._core.device_error)

    def _request(self, pending: PendingCaption) -> PreparedRequest:
        task, image = pending.task, pending.image
        key = self._model.preparation.feature_key(image.digest or "", task.options)
        prompt = self._prompt(task, image.prepared).with_image_keys(key)
        options = decoding_options(task.options, task.prompt)
        return PreparedRequest(self._model.spec, prompt, (image.prepared.pixels,), options)

    def _prompt(self, task: CaptionTask, image: PreparedImage) -> Prompt:
        """The composed prompt, cached where it does not depend on the size of the image."""
        if prompt := self._prompts.get(task):
            return prompt
        check_language(self._model.spec, task.language)
        preparation, info = self._model.preparation, ImageInfo("", image.width, image.height)
        prompt = preparation.prepare([info], (), task.prompt, language=task.language, options=task.options)
        if not preparation.positions_depend_on_size:
            self._prompts[task] = prompt
        return prompt


def _to_caption(pending: PendingCaption, output: Output, seconds: float) -> Caption:
    if output.error is not None:
        message = str(output.error)
        return Caption(pending, seconds=seconds, error=CAPTION_FAILED if message == ANSWER_FAILED else message)
    return Caption(pending, output.text, output.tokens, seconds, repeats=output.repeats)
