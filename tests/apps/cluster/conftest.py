"""Two machines of a cluster on this one, for all tests of the cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.cluster import LocalCluster, local_cluster


@pytest.fixture(scope="package")
def machines(_own_uploads: None) -> Iterator[LocalCluster]:
    """Their workers can be killed; a machine that is lost is lost for all later tests."""
    with local_cluster() as machines:
        yield machines
