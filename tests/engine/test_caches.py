"""Laws of the two caches: their bounds, their order and their counts."""

from collections.abc import Sequence

import torch

from blip_space.engine.caches import ImageFeatureCache, PrefixCache

ONE = torch.zeros(4, 8)  # 128 bytes


class Encoder:
    """Features of zeros, and how many images they were made of."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, pixels: Sequence[int]) -> torch.Tensor:
        self.batches.append(len(pixels))
        return torch.zeros(len(pixels), 4, 8)


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


def test_features_of_a_batch_do_not_keep_the_batch_alive() -> None:
    cache = ImageFeatureCache(max_bytes=10_000)
    kept = cache.get_or_encode([(name, 0) for name in "abcd"], Encoder())
    assert all(features.untyped_storage().nbytes() == features.nbytes for features in kept.values())


def test_cleared_features_are_forgotten() -> None:
    cache = ImageFeatureCache(max_bytes=1000)
    ask(cache, "a")
    cache.clear()
    assert (len(cache), cache.bytes, ask(cache, "a")) == (0, 0, [1])


def test_the_memory_of_prefixes_is_bounded() -> None:
    prefixes = PrefixCache(max_bytes=4_000)
    for number in range(20):
        past = [(torch.zeros(2, 5, 4), torch.zeros(2, 5, 4))]
        prefixes.put(f"picture {number}", [number] * 3, past)
    assert prefixes.bytes <= 4_000
    assert prefixes.get("picture 0", [0, 0, 0, 1], query_tokens=2) is None
    kept = prefixes.get("picture 19", [19, 19, 7], query_tokens=2)
    assert kept is not None
    assert kept[0][0].shape == (2, 4, 4)


def test_a_conversation_is_kept_once_however_many_turns_it_has() -> None:
    prefixes = PrefixCache(max_bytes=1_000_000)
    for ids in ([7, 8], [7, 8, 9, 10], [7, 8, 9, 10, 11], [7, 1]):
        prefixes.put("one", ids, [(torch.zeros(2, 2 + len(ids), 4), torch.zeros(2, 2 + len(ids), 4))])
    prefixes.put("other", [7, 8], [(torch.zeros(2, 4, 4), torch.zeros(2, 4, 4))])
    assert len(prefixes) == 3  # the longest, another ending, and another picture
    kept = prefixes.get("one", [7, 8, 9, 10, 11, 12], query_tokens=2)
    assert kept is not None
    assert kept[0][0].shape == (2, 7, 4)
