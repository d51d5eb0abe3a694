#!/usr/bin/env bash
# Pillow 12.3.0 loses the transparency of a PNG in grey of 2 or 4 bits.
#
# Such a PNG has one transparent level in its tRNS chunk, in the bit depth of the image (PNG specification, 11.3.2.1).
# Pillow scales the pixels to 8 bits when it reads them, but not the level, so no pixel equals it, unless it is 0:
# `convert("RGBA")` returns an opaque image. In 1 and 8 bits the same image is transparent. PNG optimizers write such
# files, since they choose the smallest depth that can store all levels.
#
# Needs Python 3.10 to 3.14 with venv, and a package index. Exits with 0 if this is still so, with 1 if it has changed.

set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==12.3.0

"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct
import sys
import zlib

import PIL
from PIL import Image


def chunk(kind, payload):
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def png(depth):
    """A valid PNG of one pixel in grey of that depth: white, and white is the transparent level."""
    white = 2**depth - 1
    pixel = zlib.compress(bytes((0, white << (8 - depth))))
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, depth, 0, 0, 0, 0)),
        (b"tRNS", struct.pack(">H", white)),
        (b"IDAT", pixel),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


print("Pillow", PIL.__version__, "on Python", sys.version.split()[0])
alphas = {}
for depth in (1, 2, 4, 8):
    image = Image.open(io.BytesIO(png(depth)))
    image.load()
    alphas[depth] = image.convert("RGBA").getpixel((0, 0))[3]
    print(
        f"{depth} bits: the transparent level is {2**depth - 1} in the file and {image.info['transparency']} in Pillow, "
        f"the pixel {image.getpixel((0, 0))}; alpha {alphas[depth]} (should be 0)"
    )
if alphas == {1: 0, 2: 255, 4: 255, 8: 0}:
    print("As described: the transparent pixel is opaque in 2 and 4 bits.")
else:
    sys.exit("The behaviour has changed.")
PYTHON
