"""What a request needs of a model before the weights are used: its prompt, and its images' positions and pixel values.

Must not import torch; a family's own preparation may. Nothing changes after construction, so any thread may use it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from blip_space import languages
from blip_space.catalogue import ModelSpec
from blip_space.history import Turn
from blip_space.images import Resize
from blip_space.options import GenerationOptions
from blip_space.prompts import STYLES, ComposedPrompt, PromptStyle, compose

PLACEHOLDER = -1
"""The id of every position of an image's features; no tokenizer has it."""


@dataclass(frozen=True)
class ImageInfo:
    """One image of a request: its digest, and its size in pixels, which is 0 if it is unknown or does not matter."""

    digest: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class ImageSpan:
    """Where an image is in a prompt: `length` positions from `start` on. Its features are cached under `key`."""

    start: int
    length: int
    key: str

    @property
    def end(self) -> int:
        """The first position after the image."""
        return self.start + self.length


@dataclass(frozen=True, eq=False)
class Prompt:
    """A conversation as a model reads it: one id per position, with `PLACEHOLDER` at the images' positions.

    `text` is the text that was tokenized. Of the earlier turns it has `kept_turns`; `dropped_turns` did not fit.
    """

    text: str
    ids: tuple[int, ...]
    images: tuple[ImageSpan, ...]
    kept_turns: tuple[Turn, ...] = ()
    dropped_turns: tuple[Turn, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def image_positions(self) -> int:
        """The number of positions of all images."""
        return sum(image.length for image in self.images)

    @cached_property
    def prefix_key(self) -> tuple[Hashable, ...]:
        """One value per position, equal exactly if the model reads the same there: an id, or an image's key with the
        index of the feature, since all placeholders have the same id."""
        key: list[Hashable] = list(self.ids)
        for image in self.images:
            key[image.start : image.end] = [(image.key, index) for index in range(image.length)]
        return tuple(key)

    def with_image_keys(self, *keys: str) -> Prompt:
        """The same prompt about other images of the same sizes, whose features are cached under these keys."""
        images = tuple(replace(image, key=key) for image, key in zip(self.images, keys, strict=True))
        return replace(self, images=images)

    @property
    def min_prefix_length(self) -> int:
        """The shortest prefix whose keys and values are reused: all images, none of which may be cut, and one token."""
        return self.images[-1].end + 1 if self.images else 1


class Preparation(ABC):
    """The tokenizer, the image processor and the prompts of one model."""

    spec: ModelSpec
    positions_depend_on_size = False
    """Whether the number of an image's positions depends on its size."""

    @property
    def resizes(self) -> tuple[Resize, ...]:
        """The resizes that are all that `pixels` needs of an image, if they are the same for every image; then
        `pixels_of_resized` takes what they made of it. Without them another process must send the entire image."""
        return ()

    @abstractmethod
    def image_positions(self, width: int, height: int, options: GenerationOptions) -> int:
        """How many positions an image of this size takes with these options. A size of 0 means unknown."""

    @abstractmethod
    def prepare(
        self,
        images: Sequence[ImageInfo],
        turns: Sequence[Turn],
        question: str,
        *,
        language: str,
        options: GenerationOptions,
    ) -> Prompt:
        """The prompt, within the model's context window; turns that do not fit are dropped, oldest first.

        No text of a user becomes a control token. Raises `PromptError` if the question alone does not fit.
        """

    @abstractmethod
    def pixels(self, image: Any, options: GenerationOptions) -> Any:
        """The pixel values of a `PIL.Image`, in the family's own form; their size in bytes is `nbytes`."""

    def pixels_of_resized(self, resized: Sequence[Any]) -> Any:
        """What `pixels` returns for an image of which the `resizes` made these images, in the same order."""
        raise NotImplementedError

    def normalize(self, pixels: Any, dtype: Any) -> Any:
        """Pixel values of several images, as one tensor (n, ...) on any device, as the vision encoder takes them."""
        return pixels.to(dtype)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The token ids of a text, including those that the tokenizer adds itself."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""

    def feature_key(self, digest: str, options: GenerationOptions) -> str:  # noqa: ARG002  # a family with tiles does
        """The key of an image's features: its digest, and the options that change them."""
        return digest

    @property
    def style(self) -> PromptStyle:
        """The prompt style that the model was trained with."""
        return STYLES[self.spec.prompt_style]

    def budget_tokens(self, image_positions: int, options: GenerationOptions) -> int:
        """How many tokens of the context window are left for the prompt's text."""
        reply = options.max_new_tokens if self.spec.decoder_only else 0
        return self.spec.context_tokens - image_positions - reply


class ImageFirstPreparation(Preparation):
    """A preparation whose prompt is the image's positions and then one text, composed in the model's style."""

    query_tokens: int

    def image_positions(self, width: int, height: int, options: GenerationOptions) -> int:  # noqa: ARG002
        """The number of query tokens, which is the same for every image."""
        return self.query_tokens

    def prepare(
        self,
        images: Sequence[ImageInfo],
        turns: Sequence[Turn],
        question: str,
        *,
        language: str,
        options: GenerationOptions,
    ) -> Prompt:
        """See `Preparation`; `images` has exactly one."""
        (image,) = images
        composed = compose(
            turns,
            question,
            style=self.style,
            language=languages.LANGUAGES[language],
            budget_tokens=self.budget_tokens(self.query_tokens, options),
            tokenize=self.encode,
        )
        return self.build_prompt(composed, self.feature_key(image.digest, options))

    def build_prompt(self, composed: ComposedPrompt, key: str) -> Prompt:
        """The prompt for a composed text: first the image, whose features are cached under `key`, then the text."""
        ids = (PLACEHOLDER,) * self.query_tokens + composed.ids
        span = ImageSpan(0, self.query_tokens, key)
        return Prompt(composed.text, ids, (span,), composed.kept_turns, composed.dropped_turns)
