#!/usr/bin/env bash
# webdataset 1.0.2 drops, without a word, every sample that lies in a folder whose name begins and ends with "__".
#
# Names such as __info__ at the top of a shard are its own metadata. The pattern that passes them by also matches the
# first folder of a name, so __scans__/a.jpg and __scans__/a.txt are no sample, while _scans_/a.jpg and __scans/a.jpg are,
# and so is x/__scans__/a.jpg. No count and no warning says that anything was left out.
#
# Needs Python 3.10 to 3.12 with venv, and a package index. Exits with 0 while this is so, with 1 once it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check webdataset==1.0.2
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys
import tarfile
from importlib.metadata import version

import webdataset

KEYS = ["__scans__/a", "_scans_/a", "__scans/a", "x/__scans__/a", "plain/a"]
with tarfile.open("shard.tar", "w") as tar:
    for key in KEYS:
        for kind, content in (("jpg", b"image"), ("txt", b"caption")):
            part = tarfile.TarInfo(f"{key}.{kind}")
            part.size = len(content)
            tar.addfile(part, io.BytesIO(content))
found = [sample["__key__"] for sample in webdataset.WebDataset("shard.tar", shardshuffle=False)]
print(f"webdataset {version('webdataset')}, Python {sys.version.split()[0]}")
print(f"in the shard: {KEYS}")
print(f"samples: {found}")
if found != KEYS[1:]:
    sys.exit("The behaviour has changed.")
print("As found: the samples of __scans__ are left out.")
PYTHON
