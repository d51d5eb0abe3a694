"""Reads `/metrics`, and checks that what the server has counted is what its clients have seen."""

from __future__ import annotations

import re
from collections.abc import Mapping

import httpx

from benchmarks.load.counts import Counts

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
ENDPOINTS = ("chat", "caption", "batch", "budget")

Labels = frozenset[tuple[str, str]]


class Scrape:
    """All samples at one time."""

    def __init__(self, text: str) -> None:
        self._samples: Mapping[tuple[str, Labels], float] = {
            (name, frozenset(LABEL.findall(labels))): float(value) for name, labels, value in SAMPLE.findall(text)
        }

    @classmethod
    def of(cls, url: str) -> Scrape:
        """What the server at this address says."""
        return cls(httpx.get(f"{url}/metrics", timeout=30, trust_env=False).raise_for_status().text)

    def total(self, name: str, **labels: str) -> float:
        """The sum of the samples of a name that have these labels."""
        wanted = labels.items()
        return sum(value for (found, own), value in self._samples.items() if found == name and wanted <= set(own))


def mismatches(scrape: Scrape, counts: Counts) -> list[str]:
    """What does not add up; the server has answered only these clients, and is idle now.

    How a call ended that its client has left is known to the server only.
    """
    found = []
    for endpoint in ENDPOINTS:
        ended = scrape.total("blip_space_requests_total", endpoint=endpoint)
        answered = scrape.total("blip_space_requests_total", endpoint=endpoint, outcome="answered")
        calls, seen, unknown = (counts.counter[f"{name}: {endpoint}"] for name in ("call", "answered", "unknown"))
        seen += counts.counter[f"incomplete: {endpoint}"]
        failed = counts.total(f"failed: {endpoint}: ")
        if not calls - unknown <= ended <= calls:
            found.append(f"{endpoint}: {ended:.0f} calls ended, {calls} were made and {unknown} of them left")
        if not seen <= answered <= seen + unknown:
            found.append(f"{endpoint}: {answered:.0f} answered, of which clients have seen {seen}")
        if not failed <= ended - answered <= failed + unknown:
            found.append(f"{endpoint}: {ended - answered:.0f} failed or cancelled, of which clients have seen {failed}")
    for name in ("blip_space_waiting", "blip_space_running"):
        if count := scrape.total(name):
            found.append(f"{name} is {count:.0f} although no client asks")
    answers = scrape.total("blip_space_answers_total", outcome="answered")
    if answers != (timed := scrape.total("blip_space_answer_seconds_count")):
        found.append(f"{answers:.0f} answers, of which {timed:.0f} were timed")
    return found
