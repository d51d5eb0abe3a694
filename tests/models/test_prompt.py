"""Laws of a prompt: which prefix two of them share, how it is embedded, and how much of the window its text gets."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from blip_space.engine.caches import PrefixCache
from blip_space.errors import PromptError
from blip_space.models.interface import Embedded, merge_image_features
from blip_space.models.preparation import PLACEHOLDER, ImageInfo, ImageSpan, Prompt
from blip_space.options import GenerationOptions
from tests.engine.fake_model import QUERY_TOKENS, FakePreparation, spec
from tests.engine.test_caches import key_values

TWO = Prompt("", (1, -1, -1, 2, -1, -1, -1, 3, 4), (ImageSpan(1, 2, "a"), ImageSpan(4, 3, "b")))


def test_an_images_positions_hold_placeholders() -> None:
    assert [index for index, token in enumerate(TWO.ids) if token == PLACEHOLDER] == [1, 2, 4, 5, 6]
    assert (len(TWO), TWO.image_positions) == (9, 5)
    assert TWO.prefix_key == (1, ("a", 0), ("a", 1), 2, ("b", 0), ("b", 1), ("b", 2), 3, 4)


def test_prompts_about_other_images_share_the_prefix_before_the_image() -> None:
    other = TWO.with_image_keys("a", "c")
    assert (other.ids, TWO.images[1].key) == (TWO.ids, "b")
    assert [own == its for own, its in zip(TWO.prefix_key, other.prefix_key, strict=True)] == [True] * 4 + [
        False
    ] * 3 + [True] * 2
    with pytest.raises(ValueError, match="zip"):
        TWO.with_image_keys("a")


def test_features_replace_the_placeholders() -> None:
    table = torch.nn.Embedding(5, 2, _weight=torch.arange(5.0)[:, None].repeat(1, 2))
    features, device = [torch.full((2, 2), 70.0), torch.full((3, 2), 80.0)], torch.device("cpu")
    merged = merge_image_features(TWO, features, table, device=device)
    assert merged[:, 1].tolist() == [1, 70, 70, 2, 80, 80, 80, 3, 4]
    image_alone = Prompt("", (PLACEHOLDER,) * 2, (ImageSpan(0, 2, "a"),))
    assert torch.equal(merge_image_features(image_alone, features[:1], table, device=device), features[0])
    with pytest.raises(ValueError, match="zip"):
        merge_image_features(TWO, features[:1], table, device=device)


def test_a_prompt_without_its_prefix_keeps_its_positions() -> None:
    """Positions need not be consecutive: an image may share some."""
    embedded = Embedded(torch.arange(8.0).view(4, 2), torch.tensor([[5, 5, 6, 7], [5, 6, 6, 7]]), 8, (3,))
    left = embedded.without_prefix(1)
    assert (len(left), left.next_position, left.start) == (3, 8, (3,))
    assert torch.equal(left.embeddings, embedded.embeddings[1:])
    assert left.positions.tolist() == [[5, 6, 7], [6, 6, 7]]
    assert torch.equal(embedded.without_prefix(0).positions, embedded.positions)


@pytest.mark.parametrize(("shared", "reused"), [(4, 0), (6, 0), (8, 8)])
def test_no_image_of_a_prompt_is_cut(shared: int, reused: int) -> None:
    """A part of its keys and values would be another prompt's."""
    prefixes = PrefixCache(10_000)
    prefixes.put((*TWO.prefix_key[:shared], "other"), key_values(shared + 1))
    assert prefixes.cached_positions(TWO.prefix_key, at_least=TWO.min_prefix_length) == reused


def test_a_prompt_without_images_reuses_a_prefix_of_one_id() -> None:
    prompt, prefixes = Prompt("", (1, 2, 3), ()), PrefixCache(10_000)
    prefixes.put((7,), key_values(1))
    assert prefixes.cached_positions(prompt.prefix_key, at_least=prompt.min_prefix_length) == 0
    prefixes.put((1, 7), key_values(2))
    assert prefixes.cached_positions(prompt.prefix_key, at_least=prompt.min_prefix_length) == 1


class OptionKeyedPreparation(FakePreparation):
    """Its features depend on an option."""

    def feature_key(self, digest: str, options: GenerationOptions) -> str:
        return f"{digest} {options.num_beams}"


def prepare(preparation: FakePreparation, words: int, images: int = 1, **options: Any) -> Prompt:
    return preparation.prepare(
        [ImageInfo("d")] * images,
        [("Why?", "a cat")],
        "word " * words,
        language="en",
        options=GenerationOptions(**options),
    )


def test_an_image_comes_first_and_its_features_have_a_key() -> None:
    prompt = prepare(OptionKeyedPreparation(spec()), 1, num_beams=3)
    assert prompt.images == (ImageSpan(0, QUERY_TOKENS, "d 3"),)
    assert (prompt.kept_turns, prompt.dropped_turns) == ((("Why?", "a cat"),), ())
    with pytest.raises(ValueError, match="too many"):
        prepare(OptionKeyedPreparation(spec()), 1, images=2)


def test_the_text_gets_what_image_and_answer_leave_of_the_window() -> None:
    """The window holds no answer of an encoder-decoder."""
    for language_model, budget in (("mt5", 512 - QUERY_TOKENS), ("bloom", 512 - QUERY_TOKENS - 100)):
        preparation = FakePreparation(spec(language_model_type=language_model))
        longest = max(words for words in range(budget - 40, budget) if _fits(preparation, words))
        assert len(prepare(preparation, longest, max_new_tokens=100)) == QUERY_TOKENS + budget


def _fits(preparation: FakePreparation, words: int) -> bool:
    try:
        prepare(preparation, words, max_new_tokens=100)
    except PromptError:
        return False
    return True
