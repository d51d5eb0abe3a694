"""Laws of choosing a token."""

import torch

from blip_space.model.choice import Choice
from blip_space.options import GenerationOptions


def drawn(seed: int) -> tuple[int, ...]:
    """Eight tokens, of which any of a thousand may come."""
    options = GenerationOptions(temperature=1.0, seed=seed)
    choice = Choice(options, start=[0], stop=frozenset(), device=torch.device("cpu"))
    return tuple(choice.choose(torch.zeros(1, 1_000), likeliest=0) for _ in range(8))


def test_each_seed_draws_its_own_tokens_and_the_same_again() -> None:
    seeds = [0, 1, 2, 3, 5, 2**31, 2**32 - 1]
    assert len({drawn(seed) for seed in seeds}) == len(seeds)
    assert [drawn(seed) for seed in seeds] == [drawn(seed) for seed in seeds]
