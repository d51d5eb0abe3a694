"""A cluster of two simulated machines, for all tests of the cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.cluster import LocalCluster, local_cluster


@pytest.fixture(scope="package")
def machines(_own_uploads: None) -> Iterator[LocalCluster]:
    """Its workers can be killed; a machine that is killed is missing in all later tests."""
    with local_cluster() as machines:
        yield machines
