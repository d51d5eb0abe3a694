"""The model's own tokenizer: a small vocabulary (byte pair encoding) of what is said here, and bytes for all else.

Any Unicode text survives encoding and decoding (nothing is normalised; joiners and scripts stay as typed), since a
visitor may type anything. Knows lessons only as lines of text.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from blip_space.languages import LANGUAGES
from training.lessons import lesson
from training.network import END, IMAGE, PAD, UNKNOWN
from training.recipe import Recipe
from training.scenes import make
from training.words import TONGUES

SPECIAL = {PAD: "<pad>", END: "</s>", UNKNOWN: "<unk>", IMAGE: "<image>"}
SPACE = "▁"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

CUTS = Regex(r"\p{Han}|\p{Hiragana}{1,4}|\p{Katakana}[\p{Katakana}ー]*|\p{P}")
"""Where scripts without spaces are cut, so that no piece swallows a whole question; and every punctuation mark."""


def train(recipe: Recipe) -> Any:
    """The tokenizer for the recipe's lessons, as transformers uses it."""
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.sizes.vocabulary - len(BYTES),
        special_tokens=[SPECIAL[number] for number in sorted(SPECIAL)],
        show_progress=False,
    )
    draft = Tokenizer(models.BPE())
    draft.pre_tokenizer = _splitter()
    draft.train_from_iterator(_corpus(recipe), trainer)
    learned = json.loads(draft.to_str())["model"]
    vocabulary = learned["vocab"] | {piece: len(learned["vocab"]) + byte for byte, piece in enumerate(BYTES)}
    return wrapped(_finished(vocabulary, [(left, right) for left, right in learned["merges"]]))


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


def _finished(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=SPECIAL[UNKNOWN], byte_fallback=True))
    tokenizer.pre_tokenizer = _splitter()
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


def _splitter() -> Any:
    # "always", not "first": what follows a special token must read as what opens a text.
    words = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    return pre_tokenizers.Sequence([words, pre_tokenizers.Split(CUTS, behavior="isolated")])


def _corpus(recipe: Recipe) -> Iterator[str]:
    """Prompts and answers as they will be asked, every word of every table, and the names of all 96 languages."""
    draw = random.Random(f"corpus/{recipe.seed}")
    for index in range(recipe.corpus_lines):
        scene = make(recipe.seed, index, split="corpus")
        one = lesson(scene, draw, kind="any" if index % 3 else "talk", codes=tuple(TONGUES), other=scene)
        yield one.prompt
        yield one.answer
    yield from _tables()


def _tables() -> Iterator[str]:
    for tongue in TONGUES.values():
        for words in (tongue.numbers, tongue.colours.values(), *tongue.shapes.values(), *tongue.questions.values()):
            yield from words
    for language in LANGUAGES.values():
        yield f"Short answer in {language.prompt_name}:"
