"""The languages of the training data, by mBLIP's codes: eight have a grammar (`GRAMMARS`), all have a `lexicon`."""

from training.lexicon import arabic, chinese, english, french, german, hindi, japanese, spanish
from training.lexicon.grammar import WORDINGS, Grammar

GRAMMARS: dict[str, Grammar] = {
    grammar.code: grammar
    for grammar in (
        english.GRAMMAR,
        german.GRAMMAR,
        spanish.GRAMMAR,
        french.GRAMMAR,
        arabic.GRAMMAR,
        hindi.GRAMMAR,
        japanese.GRAMMAR,
        chinese.GRAMMAR,
    )
}

__all__ = ["GRAMMARS", "WORDINGS", "Grammar"]
