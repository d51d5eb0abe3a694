"""Laws of silence: libraries print nothing while images are decoded; only our error messages report what they find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image, features

from tests.images.image_bytes import disc, encoded, exif, noise, with_segment, with_size

SAMPLES = b"\x15\1\3\0\1\0\0\0"
"""The first bytes of the number of samples in a TIFF's directory."""

READ = """
import sys
from concurrent.futures import ThreadPoolExecutor
from blip_space.errors import ImageError
from blip_space.images import decode

def describe(file):
    try:
        return str(decode(file).pixels.size)
    except ImageError as error:
        return str(error)

with ThreadPoolExecutor(2) as pool:
    print(*pool.map(describe, sys.argv[1:]), sep="\\n")
"""


def files() -> dict[str, bytes]:
    """Files that make Pillow, libtiff or libheif print."""
    lzw = encoded(noise(), "TIFF", compression="tiff_lzw")
    contents = {
        "exif-that-ends-early.jpg": with_segment(encoded(disc(), "JPEG"), 0xE1, exif()[:40]),
        "108-megapixels.jpg": with_size(encoded(disc(), "JPEG"), 12_000, 9_000),
        "108-megapixels.png": encoded(Image.new("1", (12_000, 9_000)), "PNG"),
        "transparent-palette.png": encoded(noise().quantize(16), "PNG", transparency=bytes(range(0, 160, 10))),
        "damaged.tif": lzw[:200] + bytes(byte ^ 0xFF for byte in lzw[200:300]) + lzw[300:],
        "too-many-samples.tif": encoded(noise(), "TIFF").replace(SAMPLES + b"\3", SAMPLES + b"\x99"),
        "malformed.mpo": with_segment(encoded(disc(), "JPEG"), 0xE2, b"MPF\0" + b"x" * 40),
        "stub.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "xmp.webp": encoded(disc(), "WEBP", xmp=b"<x:xmpmeta/>", exif=exif()[:40]),
    }
    if features.check("avif"):
        contents["xmp.avif"] = encoded(disc(), "AVIF", xmp=b"<x:xmpmeta/>")
    return contents


def test_nothing_but_our_messages_is_printed(tmp_path: Path) -> None:
    """Case exif-that-ends-early: two lines of a library's warning were printed between the captions."""
    contents = files()
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    run = subprocess.run(
        [sys.executable, "-W", "default", "-c", READ, *(str(tmp_path / name) for name in contents)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    output = dict(zip(contents, run.stdout.splitlines(), strict=True))
    assert output["transparent-palette.png"] == "(61, 47)"
    assert "108 megapixels" in output["108-megapixels.png"]
    assert "damaged" in output["damaged.tif"]


def test_warnings_of_other_modules_are_still_printed() -> None:
    code = "import blip_space.images, warnings; warnings.warn('of another')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "of another" in run.stderr
