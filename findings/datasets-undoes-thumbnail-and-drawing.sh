#!/usr/bin/env bash
# Versions: datasets==5.2.0, pillow==12.3.0, Python 3.11.
#
# datasets 5.2.0 stores the original file in place of an image that was opened from it and changed in place: what
# `thumbnail` or ImageDraw did in `map` to the images of a folder is silently lost. So it is in `from_generator` and
# `from_dict`.
#
# If a PIL image has a `filename`, the Image feature stores that path and never looks at the pixels; the images of an
# imagefolder have one. The methods that return a new image (`resize`) return one without a file name, which is stored
# as expected, and so is the same thumbnail of an image that was opened from bytes. So a step that makes photographs
# smaller before training leaves them in full size, and one that draws boxes leaves no box.
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
from PIL import Image, ImageDraw

datasets.disable_progress_bars()
FEATURES = datasets.Features({"image": datasets.Image()})
FILE = Path("photo.png")
Image.new("RGB", (400, 300), "white").save(FILE)
ORIGINAL, SMALL, DRAWN = ((400, 300), 255), ((100, 75), 255), ((400, 300), 0)


def thumbnail(image):
    image.thumbnail((100, 100))
    return image


def drawing(image):
    ImageDraw.Draw(image).rectangle((0, 0, 50, 50), fill="black")
    return image


def resized(image):
    return image.resize((100, 75))


def by_map_of_a_folder(change, opened):
    Path("folder").mkdir(exist_ok=True)
    opened().save("folder/photo.png")
    images = datasets.load_dataset("imagefolder", data_dir="folder", split="train")
    return images.map(lambda row: {"image": change(row["image"])})


def by_map(change, opened):
    numbers = datasets.Dataset.from_dict({"number": [0]})
    return numbers.map(lambda row: {"image": change(opened())}, features=FEATURES, remove_columns="number")


def by_generator(change, opened):
    def rows():
        yield {"image": change(opened())}

    return datasets.Dataset.from_generator(rows, features=FEATURES)


def by_dict(change, opened):
    return datasets.Dataset.from_dict({"image": [change(opened())]}, features=FEATURES)


def from_path():
    return Image.open(FILE)


def from_bytes():
    return Image.open(io.BytesIO(FILE.read_bytes()))


CASES = [  # what is done, what is in memory afterwards, what is stored if the image came from a path
    (thumbnail, SMALL, ORIGINAL),
    (drawing, DRAWN, ORIGINAL),
    (resized, SMALL, SMALL),
]
WAYS = [(from_path, by_map_of_a_folder)] + [
    (opened, store) for opened in (from_path, from_bytes) for store in (by_map, by_generator, by_dict)
]
print(f"datasets {datasets.__version__}, Pillow {PIL.__version__}, Python {sys.version.split()[0]}")
same = True
for change, in_memory, expected in CASES:
    for opened, store in WAYS:
        image = store(change, opened)[0]["image"]
        stored = (image.size, image.getpixel((10, 10))[0])
        same = same and stored == (expected if opened is from_path else in_memory)
        verdict = "as in memory" if stored == in_memory else "the original"
        print(f"{change.__name__}, opened {opened.__name__}, stored {store.__name__}: {image.size}, {verdict}")
print("as described" if same else "this has changed")
sys.exit(not same)
PYTHON
