"""One line of the output: an image, what was asked of it, and what came of it.

Depends on JSON; must not import anything that opens files or loads models.
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
its fingerprint, or its name in lines of versions that kept no fingerprint."""


@dataclass(frozen=True)
class CaptionTask:
    """What is asked of every image. `fingerprint` is that of the weights and the adapter; `model` is for people."""

    model: str
    precision: str
    language: str
    prompt: str
    options: GenerationOptions
    fingerprint: str = ""

    def key(self, digest: str) -> Key:
        """What the answer for the image of that digest depends on."""
        return digest, *self._asked

    @cached_property
    def _asked(self) -> tuple[str, str, str, str, str]:
        """What every key has in common, worked out once for a hundred thousand files."""
        model = self.fingerprint or self.model
        return model, self.precision, self.language, self.prompt, _sorted(non_default_options(self.options))

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
        """What came of it for one image."""
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
    where the file could not be read; `seconds` is 0 for what was copied from an equal image. `repeats` marks a caption
    that repeats its end up to the token limit; `edited` is the digest of the text file where a person corrected it."""

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
        return (
            self.digest or "",
            self.fingerprint or self.model,
            self.precision,
            self.language,
            self.prompt,
            _sorted(self.options),
        )

    def to_json_line(self) -> bytes:
        """The record as one line of JSON in UTF-8, its end included; what no UTF-8 holds is escaped."""
        return json_line(asdict(self))


def json_line(row: dict[str, Any]) -> bytes:
    """A row as one line of JSON in UTF-8."""
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def non_default_options(options: GenerationOptions) -> dict[str, Any]:
    """What was chosen, apart from what is always so."""
    plain = GenerationOptions()
    return {name: value for name, value in asdict(options).items() if value != getattr(plain, name)}


_TEXTS = ("file", "model", "precision", "language", "prompt")
_SHARED = ("model", "precision", "language", "prompt", "fingerprint")
_OPTIONAL_TEXTS = ("digest", "caption", "error")
_FIELDS = frozenset(part.name for part in fields(CaptionRecord))


def parse_record(line: str | bytes) -> CaptionRecord | None:
    """The record that a line holds, or None where it holds none. Keys that a record does not have are passed over."""
    try:
        row = json.loads(line)
        values = {name: value for name, value in row.items() if name in _FIELDS}
        if not _is_sound(values):
            return None
        for name in _SHARED:  # a hundred thousand lines hold the same few
            if name in values:
                values[name] = intern(values[name])
        return CaptionRecord(**values)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _is_sound(values: dict[str, Any]) -> bool:
    return (
        all(isinstance(values.get(name), str) for name in _TEXTS)
        and all(isinstance(values.get(name), str | None) for name in _OPTIONAL_TEXTS)
        and (values.get("caption") is None) != (values.get("error") is None)
        and isinstance(values.get("tokens"), int)
        and isinstance(values.get("seconds"), int | float)
        and isinstance(values.get("options", {}), dict)
        and all(isinstance(values.get(name, ""), str) for name in ("fingerprint", "edited"))
    )


def _sorted(options: dict[str, Any]) -> str:
    return json.dumps(options, sort_keys=True) if options else "{}"
