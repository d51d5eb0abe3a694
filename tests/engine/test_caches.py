"""The caches of image features and of prefixes: limits, order and counts."""

from collections.abc import Sequence

import torch

from blip_space.engine.caches import (
    MAX_PREFIX_BYTES,
    ImageFeatureCache,
    KeyValues,
    PrefixCache,
    PrefixKey,
    StackedKeyValues,
    prefix_cache_bytes,
)

POSITIONS = 2
"""How many positions an image takes in these prompts."""

FEATURES = torch.zeros(4, 8)  # 128 bytes


class Encoder:
    """Encodes to zeros, and counts the images of each batch."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, pixels: Sequence[int]) -> list[torch.Tensor]:
        self.batches.append(len(pixels))
        return list(torch.zeros(len(pixels), 4, 8))  # views of one tensor, as a model returns


def encoded(cache: ImageFeatureCache, names: str) -> list[int]:
    """Look these images up; the size of each batch that is encoded."""
    encoder = Encoder()
    features = cache.get_or_encode([(name, 0) for name in names], encoder)
    assert features.keys() == set(names)
    assert all(part.shape == (4, 8) for part in features.values())
    return encoder.batches


def test_the_least_recently_used_features_are_dropped_first() -> None:
    cache = ImageFeatureCache(max_bytes=2 * FEATURES.nbytes)
    assert [encoded(cache, name) for name in ("a", "b", "a")] == [[1], [1], []]
    assert encoded(cache, "c") == [1]  # `a` was used last, so `b` is dropped
    assert [encoded(cache, name) for name in ("a", "c", "b")] == [[], [], [1]]


def test_duplicate_and_cached_images_are_encoded_once_and_missing_ones_in_one_batch() -> None:
    cache = ImageFeatureCache(max_bytes=10_000)
    assert encoded(cache, "aba") == [2]
    assert encoded(cache, "abc") == [1]
    assert (len(cache), cache.bytes, cache.hits) == (3, 3 * FEATURES.nbytes, 2)


def test_features_larger_than_the_cache_are_returned_and_not_cached() -> None:
    cache = ImageFeatureCache(max_bytes=FEATURES.nbytes - 1)
    assert [encoded(cache, "a"), encoded(cache, "a")] == [[1], [1]]
    assert (len(cache), cache.bytes) == (0, 0)


def test_an_entry_larger_than_the_cache_evicts_nothing() -> None:
    cache, prefixes = ImageFeatureCache(max_bytes=FEATURES.nbytes), PrefixCache(max_bytes=2 * FEATURES.nbytes)
    encoded(cache, "a")
    cache.get_or_encode([("large", 0)], lambda _: [torch.zeros(5, 8)])
    assert encoded(cache, "a") == []
    prefixes.put(key("a", 1, 2), key_values(4))
    prefixes.put(key("large", 1, 2, 3), key_values(5))
    assert cached_ids(prefixes, "a", 1, 2, 3) == 2
    assert prefixes.bytes == 2 * FEATURES.nbytes


def test_cached_features_do_not_keep_their_batch_alive() -> None:
    cache = ImageFeatureCache(max_bytes=10_000)
    features = cache.get_or_encode([(name, 0) for name in "abcd"], Encoder())
    assert all(part.untyped_storage().nbytes() == part.nbytes for part in features.values())


def test_clear_drops_all_features() -> None:
    cache = ImageFeatureCache(max_bytes=1000)
    encoded(cache, "a")
    cache.clear()
    assert (len(cache), cache.bytes, encoded(cache, "a")) == (0, 0, [1])


def key(name: str, *ids: int) -> PrefixKey:
    """The key of a prompt: an image of two positions, then ids."""
    return [*((name, number) for number in range(POSITIONS)), *ids]


def cached_ids(prefixes: PrefixCache, name: str, *ids: int) -> int:
    """How many ids of a prompt are cached, together with the image before them."""
    positions = prefixes.cached_positions(key(name, *ids), at_least=POSITIONS + 1)
    return max(positions - POSITIONS, 0)


def get(prefixes: PrefixCache, name: str, *ids: int) -> KeyValues | None:
    """The cached keys and values of a prompt."""
    return prefixes.get(key(name, *ids), at_least=POSITIONS + 1)


def key_values(positions: int) -> KeyValues:
    """One layer, 64 bytes a position."""
    return [(torch.zeros(2, positions, 4), torch.zeros(2, positions, 4))]


def test_the_least_recently_used_prefix_is_dropped_first() -> None:
    prefixes = PrefixCache(max_bytes=2 * 4 * 64)
    for name in "ab":
        prefixes.put(key(name, 1, 2), key_values(4))
    assert get(prefixes, "a", 1, 2, 3)
    prefixes.put(key("c", 1, 2), key_values(4))
    assert [cached_ids(prefixes, name, 1, 2, 3) for name in "abc"] == [2, 0, 2]


def test_a_prefix_of_one_tensor_stays_one() -> None:
    prefixes, tensor = PrefixCache(max_bytes=4 * 64), torch.rand(2, 2, 4, 4)
    prefixes.put(key("a", 1, 2), StackedKeyValues(tensor))
    cached = get(prefixes, "a", 1, 3)
    assert isinstance(cached, StackedKeyValues)
    assert torch.equal(cached.tensor, tensor[:, :, :3])
    assert prefixes.bytes == tensor.nbytes


def test_clear_drops_all_prefixes() -> None:
    prefixes = PrefixCache(max_bytes=4 * 64)
    prefixes.put(key("a", 1, 2), key_values(4))
    prefixes.clear()
    assert (len(prefixes), prefixes.bytes) == (0, 0)
    prefixes.put(key("b", 1, 2), key_values(4))
    assert cached_ids(prefixes, "b", 1, 2, 3) == 2


def test_the_last_position_of_a_prompt_is_never_cached() -> None:
    prefixes = PrefixCache(max_bytes=1_000)
    prefixes.put(key("a", 1, 2, 3), key_values(5))
    assert cached_ids(prefixes, "a", 1, 2, 3) == 2


def test_a_prefix_shorter_than_the_minimum_is_not_used() -> None:
    prefixes = PrefixCache(max_bytes=1_000)
    prefixes.put(key("a", 1, 2, 3), key_values(5))
    for prompt in (key("a", 7), key("a", 1), key("a", 7, 2)):
        assert prefixes.get(prompt, at_least=POSITIONS + 1) is None
        assert prefixes.get(prompt, at_least=POSITIONS) is not None
    assert prefixes.hits == 3


def test_the_prefix_cache_takes_a_share_of_free_memory_up_to_a_maximum() -> None:
    assert [prefix_cache_bytes(free) for free in (None, 10**12, 8_000)] == [MAX_PREFIX_BYTES, MAX_PREFIX_BYTES, 1_000]


def test_prefixes_stay_within_their_bytes() -> None:
    prefixes = PrefixCache(max_bytes=4_000)
    for number in range(20):
        prefixes.put(key(f"image {number}", *[number] * 3), key_values(5))
    assert prefixes.bytes <= 4_000
    assert get(prefixes, "image 0", 0, 0, 0, 1) is None
    cached = get(prefixes, "image 19", 19, 19, 7)
    assert cached is not None
    assert cached[0][0].shape == (2, 4, 4)


def test_a_conversation_is_cached_once_however_many_turns_it_has() -> None:
    prefixes = PrefixCache(max_bytes=1_000_000)
    prefixes.put(key("third", 7), key_values(3))
    for ids in ([7, 8], [7, 8, 9, 10], [7, 8, 9, 10, 11], [7, 1]):
        prefixes.put(key("one", *ids), key_values(2 + len(ids)))
    prefixes.put(key("other", 7, 8), key_values(4))
    assert len(prefixes) == 4  # the longest, another ending, and two other images
    cached = get(prefixes, "one", 7, 8, 9, 10, 11, 12)
    assert cached is not None
    assert cached[0][0].shape == (2, 7, 4)
