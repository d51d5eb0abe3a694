#!/usr/bin/env bash
# Versions: pillow==12.3.0, Python 3.11.
#
# Pillow 12.3.0: saving an AVIF with `exif=` deletes the orientation from the Exif object that it is given. With
# `exif=image.getexif()` that is the image's own, so whatever is done with the image afterwards lies on its side.
#
# AVIF stores the orientation as a transform of its own, so the encoder takes it out of the EXIF data, and does so in
# the caller's object; the AVIF is right. The JPEG, WebP or PNG that is saved next with the same object has no
# orientation, and `ImageOps.exif_transpose` no longer turns the image. In the other order everything is right, and with
# the same data as bytes (`exif.tobytes()`) too. The other formats leave the object as it was.
#
# Needs Python 3.10 to 3.14 with venv, and a package index. Exits with 0 if this is still so, with 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==12.3.0
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import PIL
from PIL import ExifTags, Image, ImageOps

ORIENTATION = ExifTags.Base.Orientation


def encoded(image, kind, exif):
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif)
    return buffer.getvalue()


def photograph():
    """A JPEG of 40 x 20 pixels that is 20 x 40 when it is turned by its orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return Image.open(io.BytesIO(encoded(Image.new("RGB", (40, 20), "red"), "JPEG", exif)))


def orientation(content):
    return Image.open(io.BytesIO(content)).getexif().get(ORIENTATION)


print(f"Pillow {PIL.__version__}, Python {sys.version.split()[0]}")
results = {}
KINDS = {kind: kind for kind in ("AVIF", "WEBP", "PNG", "TIFF", "JPEG")} | {"AVIF with exif.tobytes()": "AVIF"}
for first, kind in KINDS.items():
    image = photograph()
    exif = image.getexif()
    own = orientation(encoded(image, kind, exif.tobytes() if "tobytes" in first else exif))
    left = exif.get(ORIENTATION)
    jpeg = orientation(encoded(image, "JPEG", exif))
    turned = ImageOps.exif_transpose(image).size
    results[first] = (own, left, jpeg, turned)
    print(
        f"saved as {first}: orientation {own} in the file, {left} in the caller's object; "
        f"then a JPEG: {jpeg}; the image turned upright: {turned}"
    )
right = (6, 6, 6, (20, 40))
expected = {first: right for first in results} | {"AVIF": (6, None, None, (40, 20))}
print("as described" if results == expected else "this has changed")
sys.exit(results != expected)
PYTHON
