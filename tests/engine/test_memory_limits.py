"""The limit of rows after memory ran out: it grows while steps succeed, and the same failure becomes rare."""

from __future__ import annotations

from blip_space.engine.memory_limits import MemoryLimits
from blip_space.engine.request import EngineConfig

STEPS, SECONDS = 10, 60.0


def limits(max_rows: int = 16) -> MemoryLimits:
    return MemoryLimits(EngineConfig(recovery_steps=STEPS, recovery_seconds=SECONDS), max_rows, 99_999)


def after_steps(memory: MemoryLimits, count: int, *, now: float = 0.0) -> int:
    """The limit of rows after so many steps."""
    for _ in range(count):
        memory.recover(now)
    return memory.row_limit


def test_the_limit_is_halved_and_grows_with_steps_almost_to_what_failed() -> None:
    """It grew by one row a minute."""
    memory = limits()
    memory.reduce(16, now=0.0)
    assert memory.row_limit == 8
    assert [after_steps(memory, STEPS) for _ in range(5)] == [12, 14, 15, 15, 15]


def test_what_failed_is_tried_again_after_a_pause() -> None:
    memory = limits()
    memory.reduce(16, now=0.0)
    assert after_steps(memory, 5 * STEPS, now=SECONDS - 1) == 15
    assert after_steps(memory, STEPS, now=SECONDS) == 16


def test_a_failure_of_one_row_says_nothing_about_the_number_of_rows() -> None:
    """Another program had the memory for a moment, and for minutes answers came one by one."""
    memory = limits()
    memory.reduce(1, now=0.0)
    assert [after_steps(memory, STEPS) for _ in range(5)] == [2, 4, 8, 16, 16]


def test_failures_become_rare() -> None:
    """Memory has room for five rows: in an hour of steps it runs out a few times, not every minute."""
    memory, failures, now = limits(), list[float](), 0.0
    while now < 3_600:
        now += 0.05
        memory.recover(now)
        if memory.row_limit > 5:
            failures.append(now)
            memory.reduce(memory.row_limit, now)
    assert len([at for at in failures if at < SECONDS]) == 3
    assert len(failures) <= 8
    assert memory.row_limit in (4, 5)


def test_the_limit_never_grows_beyond_the_maximum() -> None:
    memory = limits(4)
    memory.reduce(4, now=0.0)
    memory.set(max_rows=3, max_positions=99)  # another model needs the rest
    assert after_steps(memory, 9 * STEPS, now=10_000.0) == 3
