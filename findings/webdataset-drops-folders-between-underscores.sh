#!/usr/bin/env bash
# webdataset 1.0.2 silently drops every sample in a folder whose name starts and ends with "__".
#
# Names such as __info__ at the top of a shard are its own metadata. The pattern that skips them also matches the first
# folder of a name, so __scans__/a.jpg and __scans__/a.txt are not a sample, while _scans_/a.jpg, __scans/a.jpg and
# x/__scans__/a.jpg are. No count and no warning reports that anything was dropped.
#
# Needs Python 3.10 to 3.12 with venv, and a package index. Exits with 0 if this is still so, with 1 if it has changed.
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
samples = [sample["__key__"] for sample in webdataset.WebDataset("shard.tar", shardshuffle=False)]
print(f"webdataset {version('webdataset')}, Python {sys.version.split()[0]}")
print(f"in the shard: {KEYS}")
print(f"samples: {samples}")
if samples != KEYS[1:]:
    sys.exit("The behaviour has changed.")
print("As described: the samples of __scans__ are dropped.")
PYTHON
