#!/usr/bin/env bash
# transformers 5.23.0: a valid PNG of less than 100 bytes makes CLIP's image processor take gigabytes.
#
# With its default settings (LLaVA's too) the processor scales an image until its shorter side has 224 pixels, and cuts
# out the middle square afterwards. A strip of 1 by 3,000 pixels becomes 224 by 672,000 on the way, in several copies and
# types: 0.5 MB for each pixel of its length, of which one in 3,000 is kept. Checks of a file's size and of its number of
# pixels, which is 3,000 here, let it through; a strip of 1 by 65,000 wants 32 GB.
# Cutting the middle out first gives the same square.
#
# Needs Python 3.10 to 3.12 with venv, a package index and 2 GB of memory. Exits with 0 while this is so, with 1 once it
# has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 pillow==12.3.0 numpy
cd "$folder"
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import io
import resource
import sys

import numpy as np
import PIL
import transformers
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

processor = CLIPImageProcessorPil()


def peak():
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def square(image):
    """What the processor makes of an image."""
    return np.asarray(processor(images=image, return_tensors="np")["pixel_values"])


print(f"transformers {transformers.__version__}, Pillow {PIL.__version__}")
expected = square(Image.new("RGB", (1, 11), "red"))
before, grown = peak(), {}
for length in (101, 1_001, 3_001):
    file = io.BytesIO()
    Image.new("RGB", (1, length), "red").save(file, "PNG")
    size = len(file.getvalue())
    made = square(Image.open(file))
    grown[length] = peak() - before
    same = made.shape == expected.shape and np.array_equal(made, expected)
    print(f"1 x {length}: {size} bytes of PNG, {grown[length]:,.0f} MB; equal to that of its middle 11 pixels: {same}")
found = grown[3_001] > 1_000 and size < 100 and same
print("as described" if found else "this has changed")
sys.exit(not found)
PYTHON
