"""Laws of the metrics: they cover the last seconds and the last answers only."""

from __future__ import annotations

import pytest

from blip_space.serving.metrics import FIRST_TOKENS, WINDOW_SECONDS, Metrics, MetricsSnapshot


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def snapshot(metrics: Metrics) -> MetricsSnapshot:
    return metrics.snapshot(image_feature_hits=1, kv_prefix_hits=2, restarts=3)


def test_an_unused_engine_has_no_throughput(clock: Clock) -> None:
    assert snapshot(Metrics(clock)) == MetricsSnapshot(0.0, None, prefix_hits=1, turn_hits=2, restarts=3)


def test_tokens_per_second_are_of_the_last_seconds(clock: Clock) -> None:
    metrics = Metrics(clock)
    metrics.add(10)
    assert snapshot(metrics).tokens_per_second == 10.0  # over a second at least
    clock.now += 5
    assert snapshot(metrics).tokens_per_second == 2.0
    clock.now += WINDOW_SECONDS
    assert snapshot(metrics).tokens_per_second == 0.0


def test_old_counts_are_dropped_without_a_snapshot(clock: Clock) -> None:
    metrics = Metrics(clock)
    for _ in range(1_000):
        clock.now += 1.0
        metrics.add(1)
    assert len(metrics._tokens) <= WINDOW_SECONDS + 1


def test_seconds_to_the_first_token_are_the_mean_of_the_last_answers(clock: Clock) -> None:
    metrics = Metrics(clock)
    metrics.add(2, [1.0, 2.0])
    assert snapshot(metrics).first_token_seconds == 1.5
    for _ in range(FIRST_TOKENS):
        metrics.add(1, [3.0])
    assert snapshot(metrics).first_token_seconds == 3.0
