"""Plain questions of the training data: nouns in the forms that people use, general names, photographs, new words."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from training.evaluation import held_out
from training.evaluation.plain_questions import held_out_sentences
from training.lexicon import plain
from training.lexicon.lexicon import Lexicon, language_codes, load_lexicon
from training.model.codebook import TargetCodebook
from training.model.extension import extend_weights, extended_tokenizer, restore_unspaced
from training.model.tokenizer import wrap_tokenizer
from training.model.vocabulary import WordMeaning, word_meanings
from training.recipe import RECIPES
from training.scenes import everyday
from training.scenes.general_names import general_names, is_doubtful
from training.scenes.layouts import Box
from training.scenes.mixture import ood_scene, sample_scene
from training.scenes.scene import Scene, SceneObject
from training.tasks import templates
from training.tasks.held_out import LIST
from training.tasks.questions import Question
from training.tasks.samples import SampleKind, make_sample
from training.tasks.writers import PlainWriter

SAMPLES = 1_500


@pytest.fixture(scope="module")
def lexicons(sources: Path) -> dict[str, Lexicon]:
    """Every language's lexicon."""
    return {code: load_lexicon(code, sources) for code in language_codes()}


def scene_of(*kinds: str, photograph: bool = False) -> Scene:
    """A scene of one object of each of `kinds`, in a row."""
    objects = (SceneObject(kind, None, Box(20 + 30 * i, 48, 20), (0, 0, 0)) for i, kind in enumerate(kinds))
    return Scene(96, 96, ((255, 255, 255),) * 2, tuple(objects), photograph=photograph)


def answer(scene: Scene, question: Question, lexicon: Lexicon) -> str:
    return templates.answer(question, scene, lexicon)


@pytest.mark.parametrize(
    ("code", "kind", "form", "text"),
    [
        ("de", "dog", "a_acc", "einen Hund"),
        ("de", "red apple", "a_acc", "einen roten Apfel"),
        ("fr", "bird", "de_many", "d'oiseaux"),
        ("fr", "bat", "de_many", "de chauves-souris"),
        ("fr", "scissors", "a", "des ciseaux"),
        ("es", "sunglasses", "a", "unas gafas de sol"),
        ("es", "fish", "many", "peces"),
        ("ar", "dog", "the_many", "الكلاب"),
        ("ar", "ambulance", "the_many", "سيارات الإسعاف"),
        ("hi", "cat", "kitne", "कितनी"),
        ("sw", "tree", "ngapi", "mingapi"),
    ],
)
def test_a_noun_has_the_form_that_the_question_needs(code: str, kind: str, form: str, text: str) -> None:
    assert text in {forms[form] for forms in plain.nouns(code)[kind]}


@pytest.mark.parametrize("code", tuple(plain.wordings()))
def test_every_noun_names_a_concept_and_fits_its_wordings(code: str, lexicons: dict[str, Lexicon]) -> None:
    assert set(plain.nouns(code)) <= {*everyday.NAMES, *general_names()}
    writer, rng = PlainWriter(code, lexicons), random.Random(code)
    for index in range(200):
        scene = sample_scene(1, index, split="plain")
        text = writer.render_question(writer.sample_question(scene, rng, length="any"), rng)
        assert text.strip()
        assert "{" not in text


def test_a_general_name_counts_all_its_concepts(lexicons: dict[str, Lexicon]) -> None:
    scene = scene_of("dog", "red apple", "green apple")
    for kind, number in (("apple", "zwei"), ("animal", "eins"), ("fruit", "zwei"), ("vehicle", "null")):
        assert answer(scene, Question("", "count", kind), lexicons["de"]) == number
    assert answer(scene, Question("", "exists", "animal"), lexicons["de"]) == "ja"
    assert is_doubtful("fish", ["whale"])
    assert not is_doubtful("animal", ["whale"])


def test_another_number_is_answered_with_no(lexicons: dict[str, Lexicon]) -> None:
    scene = scene_of("dog", "dog", "cat")
    for number, correct in ((2, "yes"), (3, "no")):
        assert answer(scene, Question("", "exists", "dog", number=number), lexicons["en"]) == correct


def test_a_photograph_has_a_name_but_no_number_side_or_colour(lexicons: dict[str, Lexicon]) -> None:
    scene, english = scene_of("cat", photograph=True), lexicons["en"]
    assert answer(scene, Question("what", "what"), english) == "cat"
    assert answer(scene, Question("", "exists", "animal"), english) == "yes"
    assert answer(scene, Question("", "exists", "dog"), english) == "no"
    questions = (
        Question("", "count"),
        Question("", "count", "cat"),
        Question("", "colour"),
        Question("", "what", side="left"),
    )
    for question in questions:
        assert answer(scene, question, english) == "I cannot tell that of a photograph."
    assert answer(ood_scene("photo"), Question("", "count"), english) == "I don't know this picture."


def test_sentences_about_photographs_differ_between_languages(lexicons: dict[str, Lexicon]) -> None:
    sentences = [lexicon.photograph for lexicon in lexicons.values()]
    assert len(set(sentences)) == len(sentences)
    assert not {lexicon.unknown for lexicon in lexicons.values()} & set(sentences)


def test_only_the_last_query_says_that_it_is_a_photograph() -> None:
    codebook, targets = TargetCodebook(160), torch.zeros(2, 12, 9, dtype=torch.long)
    plain_codes, photographs = codebook.encode(targets), codebook.encode(targets, torch.tensor([0.0, 1.0]))
    assert torch.equal(plain_codes[0], photographs[0])
    assert torch.equal(plain_codes[1, :-1], photographs[1, :-1])
    torch.testing.assert_close(photographs[1, -1] - plain_codes[1, -1], codebook.photograph_code)


def test_training_knows_which_sentences_to_leave_out() -> None:
    """If it fails, run `python -m training.evaluation.held_out`."""
    assert LIST.read_text(encoding="utf-8") == held_out.digests()


def test_no_sample_asks_what_the_evaluation_asks(lexicons: dict[str, Lexicon]) -> None:
    rng, sentences = random.Random(4), [sentence.lower().strip("?？؟.。") for sentence in held_out_sentences()]
    codes = tuple(plain.wordings())
    for index in range(SAMPLES):
        scene = sample_scene(4, index, split="held out")
        kind: SampleKind = "short" if index % 2 else "dialogue"
        sample = make_sample(scene, rng, kind=kind, lexicons=lexicons, codes=codes, distractor=scene)
        newest = sample.prompt.lower().rpartition("question: ")[2]
        assert not any(
            newest.startswith(f"{sentence}{end}") for sentence in sentences for end in ("?", "？", "؟", " in ")
        )


def test_a_new_word_starts_from_the_name_that_the_model_knows(sources: Path) -> None:
    meanings = word_meanings(sources)
    folder = Path(__file__).parents[2] / "assets" / "tiny"
    old = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words = {"▁Maus", "▁Zzmäuse"}
    known = {**meanings, "▁Zzmäuse": meanings["▁Mäuse"]}
    new = wrap_tokenizer(Tokenizer.from_str(extended_tokenizer(old.to_str(), known)))
    before, after = old.get_vocab(), new.get_vocab()
    assert before.items() <= after.items()
    trained = torch.randn(old.get_vocab_size(), 160)
    weights = extend_weights({"shared.weight": trained, "other": trained}, new, known)
    assert torch.equal(weights["shared.weight"][: len(trained)], trained)
    assert torch.equal(weights["other"], trained)
    first, second = (weights["shared.weight"][after[word]] for word in sorted(words))
    assert torch.cosine_similarity(first, second, dim=0) > 0.7


def test_words_of_lists_keep_the_embeddings_that_the_plain_run_forgets() -> None:
    name = (WordMeaning("kind", 1, "zh"),)
    pieces, meanings = ["▁貓", "貓", "?"], {"▁貓": name, "貓": name, "狗": name}
    trained, now = torch.zeros(3, 2), torch.tensor([[1.0, 2.0], [-9.0, -9.0], [5.0, 5.0]])
    assert restore_unspaced(now, trained, pieces, meanings).tolist() == [[1, 2], [1, 2], [5, 5]]


def test_the_embeddings_of_all_words_fit_in_a_file_of_ten_megabytes(sources: Path) -> None:
    vocabulary = Tokenizer.from_file(str(Path(__file__).parents[2] / "assets" / "tiny" / "tokenizer.json")).get_vocab()
    words = {*vocabulary, *word_meanings(sources)}
    assert len(words) * RECIPES["full"].sizes.text_width * 2 < 9_999_000
