"""Two machines of a cluster on this one, for all tests of the cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.cluster import Machines, two_machines


@pytest.fixture(scope="package")
def machines(_own_uploads: None) -> Iterator[Machines]:
    """Their workers can be killed; a machine that is lost is lost for all later tests."""
    with two_machines() as machines:
        yield machines
