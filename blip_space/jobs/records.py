"""A caption record: an image, the task, and the caption or error. Each line of the output log is one record.

Depends on the options; must not import anything that opens files or loads models.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from sys import intern
from typing import Any, TypeAlias

from blip_space.options import GenerationOptions

Key: TypeAlias = tuple[str, str, str, str, str, str]
"""What a caption depends on: the image's digest, the model's fingerprint, its precision, the language, the prompt and
the options. Records of versions without fingerprints have the model's name instead of the fingerprint."""


@dataclass(frozen=True)
class CaptionTask:
    """What to generate for every image. `fingerprint` identifies weights and adapter, `model` is a name for users."""

    model: str
    precision: str
    language: str
    prompt: str
    options: GenerationOptions
    fingerprint: str = ""

    def key(self, digest: str) -> Key:
        """The key of this task's caption for the image that has `digest`."""
        return digest, *self._shared_key

    @cached_property
    def _shared_key(self) -> tuple[str, str, str, str, str]:
        """The part of the key that is the same for all images; cached, because a job may have 100,000 images."""
        model = self.fingerprint or self.model
        return model, self.precision, self.language, self.prompt, _canonical_json(non_default_options(self.options))

    def record(
        self,
        file: str,
        digest: str | None,
        *,
        caption: str | None = None,
        error: str | None = None,
        tokens: int = 0,
        seconds: float = 0.0,
        repeats: bool = False,
    ) -> CaptionRecord:
        """The record of this task for the image `file`, with a `caption` or an `error`."""
        return CaptionRecord(
            file=file,
            digest=digest,
            model=self.model,
            precision=self.precision,
            language=self.language,
            prompt=self.prompt,
            caption=caption,
            tokens=tokens,
            seconds=round(seconds, 4),
            error=error,
            options=non_default_options(self.options),
            fingerprint=self.fingerprint,
            repeats=repeats,
        )


@dataclass(frozen=True, slots=True)
class CaptionRecord:
    """The result for one image and one task. Exactly one of `caption` and `error` is None. `file` is relative to the
    folder, with slashes; `digest` is None if the file could not be read; `seconds` is 0 if the caption was copied from
    a duplicate. `repeats` marks a caption that repeats its end up to the token limit. If a user corrected the caption,
    `edited` is the digest of the text file that has the correction."""

    file: str
    digest: str | None
    model: str
    precision: str
    language: str
    prompt: str
    caption: str | None
    tokens: int
    seconds: float
    error: str | None
    options: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    repeats: bool = False
    edited: str = ""

    def key(self) -> Key:
        """What the caption depends on; equal to `CaptionTask.key` of its task."""
        model, options = self.fingerprint or self.model, _canonical_json(self.options)
        return self.digest or "", model, self.precision, self.language, self.prompt, options

    def to_json_line(self) -> bytes:
        """The record as a line of JSON in UTF-8, line end included; see `json_line`."""
        return json_line(asdict(self))


def json_line(row: dict[str, Any]) -> bytes:
    """`row` as a line of JSON in UTF-8, line end included. Lone surrogates are escaped."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def non_default_options(options: GenerationOptions) -> dict[str, Any]:
    """The options that differ from their defaults, by name."""
    defaults = GenerationOptions()
    return {name: value for name, value in asdict(options).items() if value != getattr(defaults, name)}


_REQUIRED_STRINGS = ("file", "model", "precision", "language", "prompt")
_INTERNED = ("model", "precision", "language", "prompt", "fingerprint")
_OPTIONAL_STRINGS = ("digest", "caption", "error")
_FIELDS = frozenset(part.name for part in fields(CaptionRecord))


def parse_record(line: str | bytes) -> CaptionRecord | None:
    """The record in `line`, or None if the line is not a valid record. Unknown keys are ignored."""
    try:
        row = json.loads(line)
        values = {name: value for name, value in row.items() if name in _FIELDS}
        if not _is_valid(values):
            return None
        for name in _INTERNED:  # saves memory: 100,000 lines have the same few values
            if name in values:
                values[name] = intern(values[name])
        return CaptionRecord(**values)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _is_valid(values: dict[str, Any]) -> bool:
    return (
        all(isinstance(values.get(name), str) for name in _REQUIRED_STRINGS)
        and all(isinstance(values.get(name), str | None) for name in _OPTIONAL_STRINGS)
        and (values.get("caption") is None) != (values.get("error") is None)
        and isinstance(values.get("tokens"), int)
        and isinstance(values.get("seconds"), int | float)
        and isinstance(values.get("options", {}), dict)
        and all(isinstance(values.get(name, ""), str) for name in ("fingerprint", "edited"))
    )


def _canonical_json(options: dict[str, Any]) -> str:
    return json.dumps(options, sort_keys=True) if options else "{}"
