"""`python -m training.evaluation.held_out`: writes the digests of the sentences that training must not use."""

from __future__ import annotations

from training.evaluation.plain_questions import held_out_sentences
from training.tasks.held_out import LIST, digest


def digests() -> str:
    """The digests of all sentences that are held out, one in a line."""
    return "\n".join(sorted({digest(sentence) for sentence in held_out_sentences()})) + "\n"


if __name__ == "__main__":
    LIST.write_text(digests(), encoding="utf-8")
