"""A short sample of the soak: patient clients get their answers beside others that disturb, and `/metrics` adds up."""

from __future__ import annotations

import pytest

from benchmarks import soak
from benchmarks.load.counts import Counts
from benchmarks.load.scrape import Scrape, mismatches


def test_a_short_soak_with_chaos(capsys: pytest.CaptureFixture[str]) -> None:
    code = soak.main(["--clients", "16", "--minutes", "0.2", "--chaos", "--failures", "3"])
    text = capsys.readouterr().out
    assert code == 0, text
    assert "× answered: chat" in text
    assert "× failure: end engine" in text


def test_growth_is_that_of_the_last_third() -> None:
    assert soak.growth_of([(float(second), 100 + 10 * (second >= 6)) for second in range(9)]) == pytest.approx(0.1)
    assert soak.growth_of([]) == 0


def test_counts_that_differ_are_found() -> None:
    text = """
# HELP blip_space_requests_total of calls
blip_space_requests_total{endpoint="chat",outcome="answered"} 3.0
blip_space_requests_total{endpoint="chat",outcome="cancelled"} 1.0
blip_space_waiting 0.0
blip_space_answers_total{model="tiny",endpoint="chat",outcome="answered"} 3.0
blip_space_answer_seconds_count{model="tiny",quality="stream"} 3.0
"""
    scrape = Scrape(text)
    counts = Counts()
    for name, number in (("call: chat", 4), ("answered: chat", 3), ("unknown: chat", 1)):
        counts.counter[name] = number
    assert mismatches(scrape, counts) == []
    counts.counter["answered: chat"] = 4
    counts.counter["unknown: chat"] = 0
    assert mismatches(scrape, counts)[0] == "chat: 3 answered, of which clients have seen 4"
    found = mismatches(Scrape(text.replace("waiting 0", "waiting 2")), counts)
    assert "blip_space_waiting is 2 although no client asks" in found
