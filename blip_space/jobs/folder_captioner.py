"""Generates the captions of a folder job in batches, with an engine core that runs in the caller's thread.

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
SHORT_PROMPT = 128
"""The positions that a prompt and its caption are assumed to take before there is one."""

GPU_WAITING = 64
"""How many captions a GPU prefills at once if there are so many: fewer take longer for each, and for more it would wait
until their images are loaded."""

CAPTION_FAILED = "The caption failed because of an internal error; the log has it. Try again with --retry-errors."


@dataclass(frozen=True, eq=False)
class PendingCaption:
    """A caption to generate: its task and the loaded image."""

    image: LoadedImage
    task: CaptionTask

    @property
    def key(self) -> Key:
        """The key by which the output log finds the caption; see `CaptionTask.key`."""
        return self.task.key(self.image.digest or "")


@dataclass(frozen=True)
class Caption:
    """A finished caption or an error message. `repeats` marks one that repeats its end up to the token limit."""

    pending: PendingCaption
    caption: str | None = None
    tokens: int = 0
    seconds: float = 0.0
    error: str | None = None
    repeats: bool = False


class Captioner:
    """Captions images with one model."""

    def __init__(self, model: VisionLanguageModel, *, batch_size: int | None) -> None:
        """At most `batch_size` sequences are decoded at once (each beam is one), fewer if memory is short. None takes a
        default that depends on the model, the device, its memory and the first prompt."""
        from blip_space.engine.batch_size import folder_batch_size, is_on_gpu  # imports torch
        from blip_space.models.threads import ALL_THREADS, use_threads

        self.batch_size = batch_size or folder_batch_size(model, SHORT_PROMPT)
        self._is_default = batch_size is None
        self._is_on_gpu = is_on_gpu(model)
        self._model = model
        self._core: EngineCore | None = None
        self._pending: dict[int, PendingCaption] = {}
        self._prompts: dict[CaptionTask, Prompt] = {}
        self._last_finished_at = time.monotonic()
        use_threads(ALL_THREADS)  # loading a small model sets one thread, which is best for small batches

    def prepare(self, image: Image.Image) -> PreparedImage:
        """The pixel values of an image at the size that the model takes. May be called from any thread."""
        return prepare_image(image, self._model.preparation, GenerationOptions())

    def add(self, pending_captions: Sequence[PendingCaption]) -> Iterator[list[Caption]]:
        """Queue captions, run the model if enough are queued to fill the batch, and yield those that finish together.
        `DeviceError` if the GPU fails, since that is no error of the images; `finish` raises it as well."""
        for pending in pending_captions:
            try:
                request = self._request(pending)
            except UserError as error:
                yield [Caption(pending, error=str(error))]
                continue
            core = self._core = self._core or self._new_core(request)
            self._pending[core.add(request)] = pending
        while self._core and self._core.waiting >= self._core.config.max_waiting:
            yield from self.step()

    def finish(self) -> Iterator[list[Caption]]:
        """Generate and yield all captions that are still queued or running, those that finish together at once."""
        while self._core and self._core.has_work:
            yield from self.step()

    @property
    def works_while_waiting(self) -> bool:
        """Whether `step` is worth while until the next image is loaded: only on a GPU, which would be idle. A processor
        loads images meanwhile, and computes larger batches later."""
        return self._is_on_gpu and self._core is not None and self._core.has_work

    def step(self) -> Iterator[list[Caption]]:
        """Run the model once, and yield the captions that finish. Only while there are unfinished ones."""
        assert self._core is not None
        outputs = self._core.step(time.monotonic())
        finished = [output for output in outputs if output.finished and not isinstance(output.error, DeviceError)]
        if finished:
            now, previous = time.monotonic(), self._last_finished_at
            self._last_finished_at = now
            seconds = (now - previous) / len(finished)  # shared by captions that finish together
            yield [_to_caption(self._pending.pop(output.id), output, seconds) for output in finished]
        if self._core.device_error:
            raise DeviceError(self._core.device_error)

    def abort(self) -> None:
        """Drop all queued and running captions."""
        if self._core:
            self._core.abort_all()
        self._pending.clear()

    def _new_core(self, first: PreparedRequest) -> EngineCore:
        """A core that refills its batch once half of it is free. As no answer is streamed, large prefills are best; a
        GPU begins with the images that are loaded, while threads load further ones."""
        from blip_space.engine.batch_size import folder_batch_size, folder_prefill_tokens  # imports torch
        from blip_space.engine.core import EngineCore

        options = first.options
        if self._is_default:
            self.batch_size = folder_batch_size(self._model, len(first.prompt) + options.max_new_tokens)
        groups = max(1, self.batch_size // (options.num_beams if options.quality == "best" else 1))
        config = EngineConfig(
            max_batch_size=self.batch_size,
            max_beam_groups=self.batch_size,
            max_rows=self.batch_size,
            max_waiting=min(groups, GPU_WAITING) if self._is_on_gpu else groups,
            max_prefill_tokens=folder_prefill_tokens(self._model, self.batch_size),
            streams=False,
            min_free_share=MIN_FREE_SHARE,
        )
        return EngineCore(self._model, config)

    def _request(self, pending: PendingCaption) -> PreparedRequest:
        task, image = pending.task, pending.image
        key = self._model.preparation.feature_key(image.digest or "", task.options)
        prompt = self._prompt(task, image.prepared).with_image_keys(key)
        options = decoding_options(task.options, task.prompt)
        return PreparedRequest(self._model.spec, prompt, (image.prepared.pixels,), options)

    def _prompt(self, task: CaptionTask, image: PreparedImage) -> Prompt:
        """The prompt, cached if it is the same for all image sizes. `UserError` if the language is not supported."""
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
