"""Laws of the two caches: their bounds, their order and their counts."""

from collections.abc import Sequence

import torch

from blip_space.engine.caches import (
    MAX_PREFIX_BYTES,
    ImageFeatureCache,
    KeyValues,
    PrefixCache,
    PrefixKey,
    prefix_cache_bytes,
)

POSITIONS = 2
"""How many positions a picture takes in these prompts."""

ONE = torch.zeros(4, 8)  # 128 bytes


class Encoder:
    """Features of zeros, and how many images they were made of."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, pixels: Sequence[int]) -> list[torch.Tensor]:
        self.batches.append(len(pixels))
        return list(torch.zeros(len(pixels), 4, 8))  # parts of one tensor, as a model gives them


def ask(cache: ImageFeatureCache, names: str) -> list[int]:
    """How many images each batch encodes when features of these are wanted."""
    encoder = Encoder()
    found = cache.get_or_encode([(name, 0) for name in names], encoder)
    assert found.keys() == set(names)
    assert all(features.shape == (4, 8) for features in found.values())
    return encoder.batches


def test_the_oldest_features_are_forgotten_first() -> None:
    cache = ImageFeatureCache(max_bytes=2 * ONE.nbytes)
    assert [ask(cache, name) for name in ("a", "b", "a")] == [[1], [1], []]
    assert ask(cache, "c") == [1]  # `a` was used last, so `b` goes
    assert [ask(cache, name) for name in ("a", "c", "b")] == [[], [], [1]]


def test_equal_images_and_those_that_are_kept_are_encoded_once_in_one_batch() -> None:
    cache = ImageFeatureCache(max_bytes=10_000)
    assert ask(cache, "aba") == [2]
    assert ask(cache, "abc") == [1]
    assert (len(cache), cache.bytes, cache.hits) == (3, 3 * ONE.nbytes, 2)


def test_features_larger_than_the_cache_are_used_and_not_kept() -> None:
    cache = ImageFeatureCache(max_bytes=ONE.nbytes - 1)
    assert [ask(cache, "a"), ask(cache, "a")] == [[1], [1]]
    assert (len(cache), cache.bytes) == (0, 0)


def test_what_is_larger_than_the_cache_pushes_nothing_out() -> None:
    cache, prefixes = ImageFeatureCache(max_bytes=ONE.nbytes), PrefixCache(max_bytes=2 * ONE.nbytes)
    ask(cache, "a")
    cache.get_or_encode([("large", 0)], lambda _: [torch.zeros(5, 8)])
    assert ask(cache, "a") == []
    prefixes.put(read("a", 1, 2), key_values(4))
    prefixes.put(read("large", 1, 2, 3), key_values(5))
    assert cached_ids(prefixes, "a", 1, 2, 3) == 2
    assert prefixes.bytes == 2 * ONE.nbytes


def test_features_of_a_batch_do_not_keep_the_batch_alive() -> None:
    cache = ImageFeatureCache(max_bytes=10_000)
    kept = cache.get_or_encode([(name, 0) for name in "abcd"], Encoder())
    assert all(features.untyped_storage().nbytes() == features.nbytes for features in kept.values())


def test_cleared_features_are_forgotten() -> None:
    cache = ImageFeatureCache(max_bytes=1000)
    ask(cache, "a")
    cache.clear()
    assert (len(cache), cache.bytes, ask(cache, "a")) == (0, 0, [1])


def read(name: str, *ids: int) -> PrefixKey:
    """What is read of a picture of two positions and of ids behind it, one value a position."""
    return [*((name, number) for number in range(POSITIONS)), *ids]


def cached_ids(prefixes: PrefixCache, name: str, *ids: int) -> int:
    """How many ids of that prompt would be found, with the picture before them."""
    positions = prefixes.cached_positions(read(name, *ids), at_least=POSITIONS + 1)
    return max(positions - POSITIONS, 0)


def get(prefixes: PrefixCache, name: str, *ids: int) -> KeyValues | None:
    """The keys and values of what would be found."""
    return prefixes.get(read(name, *ids), at_least=POSITIONS + 1)


def key_values(positions: int) -> KeyValues:
    """Of one layer, 64 bytes a position."""
    return [(torch.zeros(2, positions, 4), torch.zeros(2, positions, 4))]


def test_the_prefix_that_was_continued_last_is_forgotten_last() -> None:
    prefixes = PrefixCache(max_bytes=2 * 4 * 64)
    for name in "ab":
        prefixes.put(read(name, 1, 2), key_values(4))
    assert get(prefixes, "a", 1, 2, 3)
    prefixes.put(read("c", 1, 2), key_values(4))
    assert [cached_ids(prefixes, name, 1, 2, 3) for name in "abc"] == [2, 0, 2]


def test_cleared_prefixes_are_forgotten() -> None:
    prefixes = PrefixCache(max_bytes=4 * 64)
    prefixes.put(read("a", 1, 2), key_values(4))
    prefixes.clear()
    assert (len(prefixes), prefixes.bytes) == (0, 0)
    prefixes.put(read("b", 1, 2), key_values(4))
    assert cached_ids(prefixes, "b", 1, 2, 3) == 2


def test_the_last_id_of_a_prompt_is_left_to_be_read() -> None:
    prefixes = PrefixCache(max_bytes=1_000)
    prefixes.put(read("a", 1, 2, 3), key_values(5))
    assert cached_ids(prefixes, "a", 1, 2, 3) == 2


def test_a_beginning_that_is_too_short_is_not_gone_on_from() -> None:
    prefixes = PrefixCache(max_bytes=1_000)
    prefixes.put(read("a", 1, 2, 3), key_values(5))
    for prompt in (read("a", 7), read("a", 1), read("a", 7, 2)):
        assert prefixes.get(prompt, at_least=POSITIONS + 1) is None
        assert prefixes.get(prompt, at_least=POSITIONS) is not None
    assert prefixes.hits == 3


def test_prefixes_take_a_share_of_free_memory_within_a_bound() -> None:
    assert [prefix_cache_bytes(free) for free in (None, 10**12, 8_000)] == [MAX_PREFIX_BYTES, MAX_PREFIX_BYTES, 1_000]


def test_the_memory_of_prefixes_is_bounded() -> None:
    prefixes = PrefixCache(max_bytes=4_000)
    for number in range(20):
        past = [(torch.zeros(2, 5, 4), torch.zeros(2, 5, 4))]
        prefixes.put(read(f"picture {number}", *[number] * 3), past)
    assert prefixes.bytes <= 4_000
    assert get(prefixes, "picture 0", 0, 0, 0, 1) is None
    kept = get(prefixes, "picture 19", 19, 19, 7)
    assert kept is not None
    assert kept[0][0].shape == (2, 4, 4)


def test_a_conversation_is_kept_once_however_many_turns_it_has() -> None:
    prefixes = PrefixCache(max_bytes=1_000_000)
    prefixes.put(read("third", 7), key_values(3))
    for ids in ([7, 8], [7, 8, 9, 10], [7, 8, 9, 10, 11], [7, 1]):
        prefixes.put(read("one", *ids), [(torch.zeros(2, 2 + len(ids), 4), torch.zeros(2, 2 + len(ids), 4))])
    prefixes.put(read("other", 7, 8), [(torch.zeros(2, 4, 4), torch.zeros(2, 4, 4))])
    assert len(prefixes) == 4  # the longest, another ending, and two other pictures
    kept = get(prefixes, "one", 7, 8, 9, 10, 11, 12)
    assert kept is not None
    assert kept[0][0].shape == (2, 7, 4)
