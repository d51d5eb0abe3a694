"""The tokenizer, a Unigram model: each lexicon word is one piece; other text is split into learned BPE pieces or bytes.

Any Unicode text is unchanged by encoding and decoding, since a user may type anything: it is not normalized.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from blip_space.languages import LANGUAGES
from training.lexicon import GRAMMARS
from training.lexicon.lexicon import Lexicons
from training.model.architecture import END, IMAGE, PAD, UNKNOWN
from training.model.vocabulary import SPACE, WordMeanings
from training.recipe import Recipe
from training.scenes.mixture import sample_scene
from training.tasks.samples import SampleKind, make_sample

SPECIAL = {PAD: "<pad>", END: "</s>", UNKNOWN: "<unk>", IMAGE: "<image>"}
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]

WORD_BOUNDARIES = Regex(r"\p{Han}|\p{Hiragana}{1,4}|\p{Katakana}[\p{Katakana}ー]*|\p{P}")
"""Where BPE pieces must end, so that an entire question in a script without spaces does not become one piece."""

WORD_SCORE = -6.0
"""The log probability of a lexicon word, usually above that of any other segmentation of the word. A BPE piece gets its
log probability by rank (Zipf's law); single letters and bytes have the lowest."""

LETTER_SCORE, BYTE_SCORE = -10.0, -20.0
KINDS: tuple[SampleKind, ...] = ("dialogue", "any", "any")

EXTRA_PIECES = 1500
"""How many more BPE pieces are trained than used, since many are equal to lexicon words and dropped."""


def train_tokenizer(recipe: Recipe, lexicons: Lexicons, word_meanings: WordMeanings) -> Any:
    """Train a tokenizer on samples of the recipe, with the words of `word_meanings`, and wrap it for transformers."""
    count = recipe.sizes.pieces - len(BYTE_TOKENS)
    trainer = trainers.BpeTrainer(vocab_size=count + EXTRA_PIECES, show_progress=False)
    bpe = Tokenizer(models.BPE())
    words = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    bpe.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.Split(WORD_BOUNDARIES, behavior="isolated")])
    bpe.train_from_iterator(_corpus(recipe, lexicons), trainer)
    learned = [piece for piece, _ in sorted(bpe.get_vocab().items(), key=lambda entry: entry[1]) if piece != SPACE]
    learned.insert(0, SPACE)  # as bytes, a space would be decoded as "▁"
    subwords = [(piece, _log_probability(piece, i)) for i, piece in enumerate(learned) if piece not in word_meanings]
    pieces = [(SPECIAL[number], 0.0) for number in sorted(SPECIAL)] + [(piece, WORD_SCORE) for piece in word_meanings]
    pieces += [*subwords[:count], *((piece, BYTE_SCORE) for piece in BYTE_TOKENS)]
    return wrap_tokenizer(_unigram_tokenizer(pieces))


def _log_probability(piece: str, rank: int) -> float:
    return LETTER_SCORE if len(piece) == 1 else -1.5 - math.log(rank + 3)


def wrap_tokenizer(tokenizer: Tokenizer) -> Any:
    """Wrap `tokenizer` as a transformers tokenizer, in which `</s>` ends every text, as in T5."""
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[PAD],
        eos_token=SPECIAL[END],
        unk_token=SPECIAL[UNKNOWN],
        padding_side="right",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    wrapped.add_special_tokens({"additional_special_tokens": [SPECIAL[IMAGE]]})
    return wrapped


def _unigram_tokenizer(pieces: list[tuple[str, float]]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=UNKNOWN, byte_fallback=True))
    # No split at spaces, since a name may have several words. "always" instead of "first", since text after a special
    # token must be tokenized like text at the beginning.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[(SPECIAL[END], END)]
    )
    tokenizer.add_special_tokens([AddedToken(SPECIAL[number], special=True) for number in sorted(SPECIAL)])
    return tokenizer


def _corpus(recipe: Recipe, lexicons: Lexicons) -> Iterator[str]:
    """The training text: prompts and answers of samples, every word of the grammars, the names of all 96 languages."""
    rng = random.Random(f"corpus/{recipe.seed}")
    for index in range(recipe.corpus_lines):
        scene = sample_scene(recipe.seed, index, split="corpus")
        codes, kind = tuple(GRAMMARS if scene.flat else lexicons), KINDS[index % 3]
        sample = make_sample(scene, rng, kind=kind, lexicons=lexicons, codes=codes, distractor=scene)
        yield sample.prompt
        if scene.flat or scene.ood_kind:
            yield sample.answer
    yield from _table_words()


def _table_words() -> Iterator[str]:
    for grammar in GRAMMARS.values():
        for words in (grammar.numbers, grammar.colours.values(), *grammar.shapes.values(), *grammar.questions.values()):
            yield from words
    for language in LANGUAGES.values():
        yield f"Short answer in {language.prompt_name}:"
