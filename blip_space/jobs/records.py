"""A caption record: an image, the task, and the caption or error. One line of the output log.

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
"""What a caption depends on: the image's digest, the model, its precision, language, prompt and options. The model is
its fingerprint, or its name in records of versions without fingerprints."""


@dataclass(frozen=True)
class CaptionTask:
    """What to generate for every image. `fingerprint` identifies the weights and the adapter; `model` is a label."""

    model: str
    precision: str
    language: str
    prompt: str
    options: GenerationOptions
    fingerprint: str = ""

    def key(self, digest: str) -> Key:
        """The key of the caption for the image of that digest."""
        return digest, *self._shared_key

    @cached_property
    def _shared_key(self) -> tuple[str, str, str, str, str]:
        """The part that all keys share, computed once for a hundred thousand files."""
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
        """The record of one image."""
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
    """Exactly one of `caption` and `error` is None. `file` is relative to the folder, with slashes; `digest` is None
    where the file could not be read; `seconds` is 0 where the caption was copied from a duplicate. `repeats` marks a
    caption that repeats its end up to the token limit; `edited` is the digest of a text file with a user's correction.
    """

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
        """See `CaptionTask.key`."""
        model, options = self.fingerprint or self.model, _canonical_json(self.options)
        return self.digest or "", model, self.precision, self.language, self.prompt, options

    def to_json_line(self) -> bytes:
        """The record as a line of JSON in UTF-8 with its line end; lone surrogates are escaped."""
        return json_line(asdict(self))


def json_line(row: dict[str, Any]) -> bytes:
    """A dictionary as a line of JSON in UTF-8."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def non_default_options(options: GenerationOptions) -> dict[str, Any]:
    """The options that differ from their defaults."""
    defaults = GenerationOptions()
    return {name: value for name, value in asdict(options).items() if value != getattr(defaults, name)}


_REQUIRED_STRINGS = ("file", "model", "precision", "language", "prompt")
_INTERNED = ("model", "precision", "language", "prompt", "fingerprint")
_OPTIONAL_STRINGS = ("digest", "caption", "error")
_FIELDS = frozenset(part.name for part in fields(CaptionRecord))


def parse_record(line: str | bytes) -> CaptionRecord | None:
    """The record in a line, or None if there is none. Unknown keys are ignored."""
    try:
        row = json.loads(line)
        values = {name: value for name, value in row.items() if name in _FIELDS}
        if not _is_valid(values):
            return None
        for name in _INTERNED:  # a hundred thousand lines have the same few values
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
