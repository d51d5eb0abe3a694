#!/usr/bin/env bash
# Versions: datasets==5.2.0, pillow==12.3.0, Python 3.11.
#
# datasets 5.2.0: a photograph with an EXIF orientation is upright in a data set if it was given as a path, as bytes or
# as a PIL image that was opened from a path, and lies on its side for good if it was given as a PIL image opened from
# bytes.
#
# The Image feature turns an image by its orientation when a row is read. A PIL image that has no file name, as one from
# an archive, a download or an open file, is encoded first, in its own format but without its EXIF data, so nothing is
# left to turn it by. In JPEG, PNG and WebP alike, in `from_dict`, `from_generator` and `map`. The pixels are not wrong
# and nothing is reported: boxes and captions that were made for the upright image just no longer fit.
#
# Needs Python 3.10 to 3.12 with venv, and a package index. Exits with 0 if this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 pillow==12.3.0
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home"
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys
from pathlib import Path

import datasets
import PIL
from PIL import ExifTags, Image

datasets.disable_progress_bars()
FEATURES = datasets.Features({"image": datasets.Image()})
STORED, UPRIGHT = (40, 20), (20, 40)
exif = Image.Exif()
exif[ExifTags.Base.Orientation] = 6  # to be turned by a quarter


def given_as(file):
    content = file.read_bytes()
    yield "path", str(file), UPRIGHT
    yield "bytes", {"bytes": content, "path": None}, UPRIGHT
    yield "PIL image opened from the path", Image.open(file), UPRIGHT
    yield "PIL image opened from the bytes", Image.open(io.BytesIO(content)), STORED


print(f"datasets {datasets.__version__}, Pillow {PIL.__version__}, Python {sys.version.split()[0]}")
same = True
for kind in ("JPEG", "PNG", "WEBP"):
    photograph = Path(f"photograph.{kind.lower()}")
    Image.new("RGB", STORED, "red").save(photograph, kind, exif=exif)
    for name, value, expected in given_as(photograph):
        size = datasets.Dataset.from_dict({"image": [value]}, features=FEATURES)[0]["image"].size
        print(f"{kind} as {name}: {size}, {'upright' if size == UPRIGHT else 'on its side'}")
        same = same and size == expected
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
