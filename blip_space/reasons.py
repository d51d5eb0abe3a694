"""The reason of a decision, such as that for a precision: a sentence, with what a translation of it needs.

Must not import any other module of this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class Reason(str):
    """Part of a sentence in English. For translations `code` names it and `values` are what it has to name; a reason
    that was joined has `parts` instead."""

    code: str
    values: Mapping[str, str | float]
    parts: tuple[str, ...]

    def __new__(cls, sentence: str, code: str = "", *, parts: Iterable[str] = (), **values: str | float) -> Reason:
        """`code` is empty if there is no translation."""
        reason = super().__new__(cls, sentence)
        reason.code, reason.values, reason.parts = code, values, tuple(parts)
        return reason

    @classmethod
    def joined(cls, parts: Iterable[str]) -> Reason:
        """Several reasons as one."""
        parts = tuple(part for part in parts if part)
        return cls("; ".join(parts), parts=parts)
