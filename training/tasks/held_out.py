"""Sentences that training never uses, since the evaluation asks them; training has only their digests.

`python -m training.evaluation.held_out` writes the list. Depends on nothing else in training.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

LIST = Path(__file__).with_name("held_out.txt")
DIGEST_CHARACTERS = 16
_IGNORED = re.compile(r"[\s.,!?¿؟。、？،’']")


def digest(sentence: str) -> str:
    """The digest of a sentence, the same for every spelling in capitals, punctuation and spaces."""
    letters = _IGNORED.sub("", sentence).lower()
    return hashlib.sha256(letters.encode()).hexdigest()[:DIGEST_CHARACTERS]


def is_held_out(sentence: str) -> bool:
    """Whether the evaluation asks this question."""
    return digest(sentence) in _digests()


@cache
def _digests() -> frozenset[str]:
    return frozenset(LIST.read_text(encoding="utf-8").split())
