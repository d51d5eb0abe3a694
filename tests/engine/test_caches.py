"""The prefix cache: its bound, its order and its counts."""

import torch

from blip_space.model.features import FeatureKey, PrefixCache

ONE = torch.zeros(1, 4, 8)  # 128 bytes


def key(number: int) -> FeatureKey:
    return f"{number:064x}", "tiny", "fp32"


def test_oldest_prefix_is_forgotten_first() -> None:
    cache = PrefixCache(max_bytes=2 * ONE.nbytes)
    cache.put(key(1), ONE)
    cache.put(key(2), ONE)
    assert cache.get(key(1)) is not None  # used, so now 2 is the oldest
    cache.put(key(3), ONE)
    assert cache.get(key(2)) is None
    assert cache.get(key(1)) is not None
    assert cache.get(key(3)) is not None


def test_bytes_never_exceed_the_bound() -> None:
    cache = PrefixCache(max_bytes=300)
    for number in range(20):
        cache.put(key(number), torch.zeros(1, number % 5 + 1, 8))
        assert cache.bytes <= 300
    assert cache.bytes == sum(cache._prefixes[kept].nbytes for kept in cache._prefixes)


def test_same_key_twice_counts_once() -> None:
    cache = PrefixCache(max_bytes=1000)
    cache.put(key(1), ONE)
    cache.put(key(1), ONE)
    assert (len(cache), cache.bytes) == (1, ONE.nbytes)


def test_prefix_larger_than_the_cache_is_not_kept() -> None:
    cache = PrefixCache(max_bytes=ONE.nbytes - 1)
    assert cache.get_or_encode(key(1), lambda: ONE) is ONE
    assert (len(cache), cache.bytes) == (0, 0)


def test_picture_is_encoded_once() -> None:
    cache, encoded = PrefixCache(max_bytes=1000), []

    def encode() -> torch.Tensor:
        encoded.append(1)
        return ONE

    for _ in range(3):
        assert torch.equal(cache.get_or_encode(key(1), encode), ONE)
    assert (len(encoded), cache.hits, cache.misses) == (1, 2, 1)


def test_precision_and_model_are_part_of_the_key() -> None:
    cache = PrefixCache(max_bytes=1000)
    cache.put(("a", "tiny", "fp32"), ONE)
    assert cache.get(("a", "tiny", "bf16")) is None
    assert cache.get(("a", "other", "fp32")) is None
    assert cache.get(("b", "tiny", "fp32")) is None


def test_slice_of_a_batch_does_not_keep_the_batch_alive() -> None:
    cache, batch = PrefixCache(max_bytes=1000), torch.ones(16, 4, 8)
    cache.put(key(1), batch[3:4])
    kept = cache.get(key(1))
    assert kept is not None
    assert kept.untyped_storage().nbytes() == kept.nbytes == cache.bytes


def test_clear_forgets_all() -> None:
    cache = PrefixCache(max_bytes=1000)
    cache.put(key(1), ONE)
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)
