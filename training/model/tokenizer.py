"""The model's own tokenizer: every word of the world is a piece, a small vocabulary spells all that is said around
them, and bytes spell the rest.

Any Unicode text survives encoding and decoding (nothing is normalised; joiners and scripts stay as typed), since a
visitor may type anything. Knows lessons only as lines of text.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from blip_space.languages import LANGUAGES
from training.lexicon import GRAMMARS
from training.lexicon.lexicon import Lexicon
from training.model.architecture import END, IMAGE, PAD, UNKNOWN
from training.model.vocabulary import SPACE, Senses
from training.recipe import Recipe
from training.scenes.mixture import sample_scene
from training.tasks.samples import make_sample

SPECIAL = {PAD: "<pad>", END: "</s>", UNKNOWN: "<unk>", IMAGE: "<image>"}
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

CUTS = Regex(r"\p{Han}|\p{Hiragana}{1,4}|\p{Katakana}[\p{Katakana}ー]*|\p{P}")
"""Where the small vocabulary is cut, so that no piece of it swallows a whole question in a script without spaces."""

WORD_SCORE = -6.0
"""The log probability of every word of the world: likelier than any spelling of it, as a rule. Other
pieces have theirs by rank, as Zipf's law has it, and single letters and bytes come last."""

LETTER_SCORE, BYTE_SCORE = -10.0, -20.0

SPARE = 1500
"""More than as many of the small vocabulary's pieces turn out to be words of the world."""


def train(recipe: Recipe, lexicons: Mapping[str, Lexicon], senses: Senses) -> Any:
    """The tokenizer for the recipe's lessons, as transformers uses it."""
    count = recipe.sizes.pieces - len(BYTES)
    trainer = trainers.BpeTrainer(vocab_size=count + SPARE, show_progress=False)
    draft = Tokenizer(models.BPE())
    words = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    draft.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.Split(CUTS, behavior="isolated")])
    draft.train_from_iterator(_corpus(recipe, lexicons), trainer)
    learned = [piece for piece, _ in sorted(draft.get_vocab().items(), key=lambda entry: entry[1]) if piece != SPACE]
    learned.insert(0, SPACE)  # a space must never be spelt in bytes, which would come back as its mark
    spelt = [(piece, _score(piece, rank)) for rank, piece in enumerate(learned) if piece not in senses]
    pieces = [(SPECIAL[number], 0.0) for number in sorted(SPECIAL)] + [(piece, WORD_SCORE) for piece in senses]
    return wrapped(_finished([*pieces, *spelt[:count], *((piece, BYTE_SCORE) for piece in BYTES)]))


def _score(piece: str, rank: int) -> float:
    return LETTER_SCORE if len(piece) == 1 else -1.5 - math.log(rank + 3)


def wrapped(tokenizer: Tokenizer) -> Any:
    """The tokenizer in transformers' coat; `</s>` ends every text, as with T5."""
    coat = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[PAD],
        eos_token=SPECIAL[END],
        unk_token=SPECIAL[UNKNOWN],
        padding_side="right",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    coat.add_special_tokens({"additional_special_tokens": [SPECIAL[IMAGE]]})
    return coat


def _finished(pieces: list[tuple[str, float]]) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=UNKNOWN, byte_fallback=True))
    # Not split at spaces: a name may have several words. "always", not "first": what follows a special token must read
    # as what opens a text.
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


def _corpus(recipe: Recipe, lexicons: Mapping[str, Lexicon]) -> Iterator[str]:
    """Prompts and answers as they will be asked, every word of every table, and the names of all 96 languages."""
    rng = random.Random(f"corpus/{recipe.seed}")
    for index in range(recipe.corpus_lines):
        here = sample_scene(recipe.seed, index, split="corpus")
        codes = tuple(GRAMMARS if here.flat else lexicons)
        one = make_sample(
            here, rng, kind="any" if index % 3 else "dialogue", lexicons=lexicons, codes=codes, distractor=here
        )
        yield one.prompt
        if here.flat or here.ood_kind:
            yield one.answer
    yield from _tables()


def _tables() -> Iterator[str]:
    for grammar in GRAMMARS.values():
        for words in (grammar.numbers, grammar.colours.values(), *grammar.shapes.values(), *grammar.questions.values()):
            yield from words
    for language in LANGUAGES.values():
        yield f"Short answer in {language.prompt_name}:"
