"""The languages that the model is taught, by mBLIP's codes. Each module is one language's tables and grammar."""

from training.lexicon import arabic, chinese, english, french, german, hindi, japanese, spanish
from training.lexicon.grammar import WORDINGS, Tongue

TONGUES: dict[str, Tongue] = {
    tongue.code: tongue
    for tongue in (
        english.TONGUE,
        german.TONGUE,
        spanish.TONGUE,
        french.TONGUE,
        arabic.TONGUE,
        hindi.TONGUE,
        japanese.TONGUE,
        chinese.TONGUE,
    )
}

__all__ = ["TONGUES", "WORDINGS", "Tongue"]
