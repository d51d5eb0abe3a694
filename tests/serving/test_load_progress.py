"""Laws of load progress: its sentence and its estimate."""

from __future__ import annotations

from blip_space.loading.progress import LoadEvent
from blip_space.serving.load_progress import LoadProgress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_there_is_no_estimate_before_the_first_event() -> None:
    assert LoadProgress().estimate() is None


def test_a_download_is_reported_in_bytes_with_an_estimate_from_its_own_speed() -> None:
    clock = Clock()
    progress = LoadProgress(clock=clock)
    progress(LoadEvent("download", 5_000_000_000, 20_000_000_000))  # a quarter was downloaded before
    assert progress.estimate().sentence == "downloading, 5.00 of 20.00 GB"  # type: ignore[union-attr]
    clock.now += 60
    progress(LoadEvent("download", 8_000_000_000, 20_000_000_000))
    estimate = progress.estimate()
    assert estimate
    assert (estimate.share, estimate.seconds_left) == (0.4, 240.0)
    assert estimate.sentence == "downloading, 8.00 of 20.00 GB, 4 min left"


def test_the_load_after_a_download_has_its_own_speed() -> None:
    clock = Clock()
    progress = LoadProgress(clock=clock)
    progress(LoadEvent("download", 0, 10))
    clock.now += 1_000
    progress(LoadEvent("load", 0, 100))
    clock.now += 5
    progress(LoadEvent("load", 50, 100))
    estimate = progress.estimate()
    assert estimate
    assert estimate.sentence == "loading its weights, 50%, 5 s left"


def test_a_short_load_is_not_reported_and_a_long_one_periodically() -> None:
    clock, reported = Clock(), list[str]()
    progress = LoadProgress(reported.append, interval_seconds=10, clock=clock)
    for second in range(40):
        clock.now = 100.0 + second
        progress(LoadEvent("load", second, 40))
    assert [line.split(", ")[1] for line in reported] == ["5%", "30%", "55%", "80%"]
