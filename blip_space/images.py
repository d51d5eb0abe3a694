"""Untrusted bytes become a picture and its digest, or a sentence.

The one place that opens pictures, and where every limit on them stands. Knows nothing of models: what size a model
wants is its own affair.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from PIL import Image, ImageOps

from blip_space.errors import ImageError

MAX_BYTES = 20_000_000
MAX_PIXELS = 64_000_000
"""Enough for the 50-megapixel pictures of today's telephones; one takes 192 MB while it is decoded."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
WHITES = (1, 255, 65_535)
"""What white is in pictures of 32-bit numbers: the first of these that no pixel exceeds."""

READABLE = "JPEG, PNG, WebP, GIF, BMP and TIFF"
WAY_OUT = f"Send a {READABLE.replace(' and ', ' or ')} file."


@dataclass(frozen=True, eq=False)
class SafeImage:
    """A decoded picture: upright 8-bit RGB pixels, and the SHA-256 of the bytes it came from in hexadecimal."""

    pixels: Image.Image
    digest: str


def decode(source: str | Path | bytes) -> SafeImage:
    """Read a picture from a path or from its bytes: first frame, upright, on white where it is transparent.

    Raises `ImageError` with a sentence for whatever is missing, too large, broken or of another format.
    """
    data = source if isinstance(source, bytes) else read(Path(source))
    if not data:
        raise ImageError(f"The file is empty (0 bytes). {WAY_OUT}")
    if len(data) > MAX_BYTES:
        raise ImageError(
            f"The file has {len(data) / 1e6:.1f} MB, and at most {MAX_BYTES // 1_000_000} MB are read. "
            "Send a smaller or more strongly compressed copy."
        )
    return SafeImage(_pixels(data), digest(data))


def digest(data: bytes) -> str:
    """The SHA-256 of a picture's bytes in hexadecimal, by which equal pictures are known everywhere."""
    return hashlib.sha256(data).hexdigest()


def read(path: Path) -> bytes:
    """A file's bytes, or a few more than are ever decoded. `ImageError` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ImageError(f"There is no file {path.name!r}. {WAY_OUT}") from None
    except IsADirectoryError:
        raise ImageError(f"{path.name!r} is a folder, not a picture. {WAY_OUT}") from None
    except (OSError, ValueError):
        raise ImageError(f"The file {path.name!r} cannot be read. Check its permissions, or send another.") from None


def _pixels(data: bytes) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(_too_many_pixels("far more than that")) from None
    except Exception:  # a hostile header may raise anything
        raise ImageError(_unreadable(data)) from None
    if picture.width * picture.height > MAX_PIXELS:
        raise ImageError(_too_many_pixels(f"{picture.width * picture.height / 1e6:.0f} megapixels"))
    try:
        picture.load()
        return _flat(ImageOps.exif_transpose(picture))
    except Exception:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …, all for the same reason
        raise ImageError(
            "The picture is damaged or was cut off, so it cannot be decoded. Save or upload it again."
        ) from None


def _flat(picture: Image.Image) -> Image.Image:
    """8-bit RGB: deep grey scaled to 8 bits, transparency laid on white, every other mode as Pillow converts it."""
    if picture.mode.startswith("I;16"):
        picture = _scaled(picture.convert("I"), 65_535)
    elif picture.mode in ("I", "F"):
        _, brightest = cast(tuple[float, float], picture.getextrema())
        picture = _scaled(picture, next((white for white in WHITES if brightest <= white), brightest))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return picture.convert("RGB")


def _scaled(picture: Image.Image, white: float) -> Image.Image:
    """8-bit grey of a picture whose numbers go from 0 to `white`."""
    return picture.convert("F").point(lambda value: value * (255 / white) + 0.0).convert("L")


def _too_many_pixels(count: str) -> str:
    limit = MAX_PIXELS // 1_000_000
    return f"The picture is too large ({count}); at most {limit} megapixels are read. Send a smaller copy."


def _unreadable(data: bytes) -> str:
    start = data[:512].lstrip().lower()
    if start.startswith((b"<svg", b"<?xml", b"<!doctype svg")):
        return f"SVG drawings are not read. Export the drawing as PNG; {READABLE} are read."
    if data[4:8] == b"ftyp":
        return f"HEIC, HEIF and AVIF pictures and videos are not read. Save it as JPEG; {READABLE} are read."
    return f"The file is not a picture that can be read, whatever its name ends with. {WAY_OUT}"
