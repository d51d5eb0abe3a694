#!/usr/bin/env bash
# Versions: pytest-xdist==3.8.0, pytest==9.1.0 and pytest==9.2.0, Python 3.11.
#
# pytest-xdist 3.8.0 with pytest 9.2.0 divides the tests of one group: `--dist loadgroup` runs tests that are marked
# `xdist_group("one")` in several processes at once, without an error or a warning.
#
# The documentation of --dist loadgroup says that all tests of a group run in the same process, which is how tests share a
# server, a port or a module's fixture. xdist appends the group to each test's `_nodeid`, and its scheduler reads it back
# from `nodeid`. pytest 9.2 makes `nodeid` of a structured identifier and never reads `_nodeid`, so the group is lost, and
# every test is a group of its own. With pytest 9.1 the same tests stay together. Whoever upgrades pytest alone then has
# fixtures of a module set up twice, and tests that fail only now and then. A scheduler of one's own
# (`pytest_xdist_make_scheduler`) that reads the file from the test's name is not affected.
#
# Needs Python 3.10 to 3.13 with venv, and a package index. Exits with 0 if this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > test_group.py <<'PYTHON'
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("one")


@pytest.mark.parametrize("number", range(6))
def test_it(number):
    (Path(os.environ["WORKERS"]) / os.environ["PYTEST_XDIST_WORKER"]).touch()
PYTHON

workers_with() { # how many processes ran the tests of the group, with this version of pytest
  python3 -m venv "$1"
  "$1/bin/pip" install --quiet --disable-pip-version-check "pytest==$1" pytest-xdist==3.8.0
  export WORKERS="$folder/workers-$1"
  mkdir "$WORKERS"
  "$1/bin/python" -m pytest -q -p no:cacheprovider -n 2 --dist loadgroup test_group.py >&2
  find "$WORKERS" -type f | wc -l
}

before=$(workers_with 9.1.0)
now=$(workers_with 9.2.0)
echo "pytest-xdist 3.8.0: processes that ran the six tests of one group (right: 1)"
echo "pytest 9.1.0: $before"
echo "pytest 9.2.0: $now"
if [ "$before" = 1 ] && [ "$now" = 2 ]; then echo "as described"; else echo "this has changed"; exit 1; fi
