"""One line of the output: a picture, what was asked of it, and what came of it.

Knows JSON; knows no file and no model.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from blip_space.options import GenerationOptions

Key: TypeAlias = tuple[str, str, str, str, str, str]
"""What a caption depends on: the picture's digest, the model, its precision, language, prompt and options."""


@dataclass(frozen=True)
class Task:
    """What is asked of every picture."""

    model: str
    precision: str
    language: str
    prompt: str
    options: GenerationOptions

    def key(self, digest: str) -> Key:
        """What the answer for the picture of that digest depends on."""
        return digest, self.model, self.precision, self.language, self.prompt, _sorted(told(self.options))

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
    ) -> Record:
        """What came of it for one picture."""
        return Record(
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
            options=told(self.options),
            repeats=repeats,
        )


@dataclass(frozen=True)
class Record:
    """Exactly one of `caption` and `error` is None. `file` is relative to the folder, with slashes; `digest` is None
    where the file could not be read; `seconds` is 0 for what was copied from an equal picture."""

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
    repeats: bool = False
    """Whether the caption was cut off by its limit in the middle of a loop."""

    def key(self) -> Key:
        """See `Task.key`."""
        digest = self.digest or ""
        return digest, self.model, self.precision, self.language, self.prompt, _sorted(self.options)

    def line(self) -> str:
        """The record as one line of JSON, its end included."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"


def told(options: GenerationOptions) -> dict[str, Any]:
    """What was chosen, apart from what is always so."""
    plain = GenerationOptions()
    return {name: value for name, value in asdict(options).items() if value != getattr(plain, name)}


def parse(line: str) -> Record | None:
    """The record that a line holds, or None where it holds none."""
    try:
        row = json.loads(line)
        record = Record(**row)
    except (ValueError, TypeError):
        return None
    texts = (record.file, record.model, record.precision, record.language, record.prompt)
    return record if all(isinstance(text, str) for text in texts) and isinstance(record.options, dict) else None


def _sorted(options: dict[str, Any]) -> str:
    return json.dumps(options, sort_keys=True)
