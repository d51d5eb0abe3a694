"""The library: one loaded model that programs ask from any thread.

Depends on serving and on what is below it; must not import apps. torch is imported by `load`, not by this module.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, overload

from PIL import Image

from blip_space import catalogue, images, options
from blip_space.catalogue import ModelSpec
from blip_space.catalogue.remote import PRECISION, check_options, with_adapter
from blip_space.engine.request import EngineConfig, Request
from blip_space.errors import ModelError, UserError
from blip_space.history import parse_history
from blip_space.serving.protocol import EngineProtocol
from blip_space.serving.threaded import ThreadedEngine
from blip_space.settings import openai_key

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import Unpack

    from blip_space.models.interface import VisionLanguageModel
    from blip_space.serving.response import ResponseStream

ImageSource = str | Path | bytes | Image.Image
"""A file's path, a file's bytes, or an image that Pillow has opened."""

CONFIG = EngineConfig(max_waiting=1_000_000, timeout_seconds=10_000_000.0)
"""Without limits on the queue and on the time of an answer, since the program itself bounds its requests."""

BATCHES_IN_FLIGHT = 2
"""How many batches of one `caption` call's images are decoded ahead of their captions."""

CLOSED = "This engine is closed. Load the model again with blip_space.load()."


class Decoding(TypedDict, total=False):
    """How answers are decoded; see `GenerationOptions` for the defaults. `caption` uses beam search by default."""

    max_new_tokens: int
    temperature: float
    top_p: float
    repetition_penalty: float
    seed: int
    quality: Literal["stream", "best"]


def load(
    model: str = "tiny",
    *,
    precision: str = "auto",
    adapter: str = "",
    device: str = "auto",
    photo_encoder: bool = True,
) -> Engine:
    """Load a model and return it ready to answer.

    `model` is a name of the catalogue (`python -m blip_space models`), a folder with a checkpoint, a repository
    `owner/name` of the hub, which is downloaded where it is not cached, or `openai:URL#NAME` for a model of another
    server, to which the images are then sent. `precision` is auto, fp32, bf16, fp16, int8 or int4. `adapter` is a LoRA
    adapter's folder or repository. `device` is auto, cpu, mps or cuda:N. Without `photo_encoder`, a model that has one,
    such as tiny, is the plain BLIP-2 of its folder. Raises `ModelError` where the model cannot be loaded.
    `DeviceError`, here or of an answer, means that the GPU failed: only another process can use it again.
    """
    spec = with_adapter(catalogue.find_model(model, folders=True), adapter)
    check_options(spec, precision, device)
    if spec.server:
        return Engine._of_server(spec)
    if not photo_encoder:
        spec = replace(spec, photo_encoder=False)
    from blip_space.loading.loader import load_model

    return Engine(load_model(spec, precision, device=device))


class Engine:
    """One loaded model, with a thread of its own that answers all requests together.

    Every method may be called from any thread. The end of a `with` block closes the engine; so does the end of the
    program. Image features, and keys and values of answers, are kept for later questions about the same images.
    """

    def __init__(self, model: VisionLanguageModel) -> None:
        from blip_space.engine.batch_size import streaming_batch_size  # imports torch

        engine = ThreadedEngine([model.spec], config=CONFIG, load=lambda *_: model)
        self._start(engine, precision=model.precision.name, at_once=streaming_batch_size(model))

    @classmethod
    def _of_server(cls, spec: ModelSpec) -> Self:
        """The engine of a remote model."""
        from blip_space.serving.remote.engine import RemoteEngine

        engine = cls.__new__(cls)
        remote = RemoteEngine(spec, key=openai_key(), config=CONFIG)
        engine._start(remote, precision=PRECISION, at_once=CONFIG.resolve().max_batch_size)
        return engine

    def _start(self, engine: EngineProtocol, *, precision: str, at_once: int) -> None:
        """Use an engine that generates `at_once` answers together."""
        self.model, self.precision = engine.default.name, precision
        self._max_in_flight = BATCHES_IN_FLIGHT * at_once
        engine.start()
        self._engine: EngineProtocol | None = engine
        self._close = weakref.finalize(self, engine.stop)  # also at exit, before threads are killed

    def ask(
        self,
        image: ImageSource,
        prompt: str = "",
        *,
        language: str = "en",
        history: Sequence[Mapping[str, str]] = (),
        **decoding: Unpack[Decoding],
    ) -> str:
        """The answer to a question about an image; an empty prompt asks for a caption.

        `history` holds earlier turns, oldest first: `{"role": "user" | "assistant", "content": …}`, alternating. Raises
        `UserError`, with a message for the user, if the image, the request or the answer fails.
        """
        *_, text = self._submit(image, prompt, language, history, decoding)
        return text

    def stream(
        self,
        image: ImageSource,
        prompt: str = "",
        *,
        language: str = "en",
        history: Sequence[Mapping[str, str]] = (),
        **decoding: Unpack[Decoding],
    ) -> Iterator[str]:
        """Yields the answer's text so far each time that it grows; see `ask`. Closing the iterator stops the answer."""
        return self._follow(self._submit(image, prompt, language, history, decoding))

    @overload
    def caption(  # type: ignore[overload-overlap]  # a string is also a sequence of strings; it means a path
        self, image: ImageSource, *, language: str = ..., **decoding: Unpack[Decoding]
    ) -> str: ...

    @overload
    def caption(
        self, image: Sequence[ImageSource], *, language: str = ..., **decoding: Unpack[Decoding]
    ) -> list[str]: ...

    def caption(
        self, image: ImageSource | Sequence[ImageSource], *, language: str = "en", **decoding: Unpack[Decoding]
    ) -> str | list[str]:
        """The caption of one image, or a list with the captions of several images, which are generated together.

        Raises the `UserError` of the first image that fails; `captions` yields the error instead and goes on.
        """
        if isinstance(image, ImageSource):
            return self.ask(image, language=language, **_for_caption(decoding))
        captions = []
        sources = list(image)
        for source, caption in zip(sources, self.captions(sources, language=language, **decoding), strict=True):
            if isinstance(caption, UserError):
                raise type(caption)(f"{source}: {caption}") if isinstance(source, str | Path) else caption
            captions.append(caption)
        return captions

    def captions(
        self, images: Iterable[ImageSource], *, language: str = "en", **decoding: Unpack[Decoding]
    ) -> Iterator[str | UserError]:
        """Yields the captions of many images in their order; for an image that fails, the `UserError` instead of a
        caption. Only a few images are in memory at once."""
        in_flight: deque[ResponseStream | UserError] = deque()
        try:
            for image in images:
                try:
                    in_flight.append(self._submit(image, "", language, (), _for_caption(decoding)))
                except UserError as error:
                    in_flight.append(error)
                if len(in_flight) == self._max_in_flight:
                    yield _caption(in_flight.popleft())
            while in_flight:
                yield _caption(in_flight.popleft())
        finally:
            for response in in_flight:
                if not isinstance(response, UserError):
                    response.cancel()

    def close(self) -> None:
        """End every answer and free the model. A second call does nothing."""
        self._close()
        self._engine = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _submit(
        self, image: ImageSource, prompt: str, language: str, history: Sequence[Mapping[str, str]], decoding: Decoding
    ) -> ResponseStream:
        engine = self._engine
        if engine is None:
            raise ModelError(CLOSED)
        source, turns = _read(image), parse_history(list(history))
        return engine.submit(Request(source, prompt, language, turns, options=options.check(**decoding)))

    def _follow(self, response: ResponseStream) -> Iterator[str]:
        """Yields what `response` yields. As a method it keeps this engine alive until then."""
        yield from response


def _read(source: ImageSource) -> images.SafeImage | images.ImageFile:
    if isinstance(source, Image.Image):
        return images.from_pillow(source)
    data = source if isinstance(source, bytes) else images.read_file(Path(source), max_bytes=images.MAX_FILE_BYTES)
    return images.ImageFile(data, images.MAX_FILE_BYTES)


def _for_caption(decoding: Decoding) -> Decoding:
    return {"quality": options.CAPTION.quality, "max_new_tokens": options.CAPTION.max_new_tokens, **decoding}


def _caption(response: ResponseStream | UserError) -> str | UserError:
    if isinstance(response, UserError):
        return response
    try:
        *_, text = response
    except UserError as error:
        return error
    return text
