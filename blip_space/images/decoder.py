"""Decode the bytes of an image into upright 8-bit RGB pixels.

Pillow decodes the bytes unchanged. Only if this fails, the file is rebuilt from its pixel data and decoded again, so
damaged text, profiles, EXIF or end markers do not make an image unreadable.
"""

from __future__ import annotations

import ctypes
import io
import logging
import re
import warnings

from PIL import Image, _imaging

from blip_space.errors import ImageError
from blip_space.images import containers, flattening, formats, heif, jpeg, jpeg_repair, orientations, png, tiff

MAX_PIXELS = 64_000_000
"""The limit for every format at full size. Pillow stores 4 bytes per pixel, so 64 megapixels of RGB take 256 MB."""

MAX_JPEG_PIXELS = 200_000_000
"""The limit for a JPEG, which is decoded at 1/2, 1/4 or 1/8 of its size if it has more than `MAX_PIXELS`.

Measured with Pillow 12.3: decoding a baseline JPEG of 200 megapixels at 1/8 raises the peak memory by 25 MB in addition
to the bytes of its file.
"""

MAX_COMPONENTS = 400_000_000
"""The limit for width × height × components of a progressive JPEG above `MAX_PIXELS`: libjpeg holds 2 bytes per stored
sample, at any reduction. That is at most 800 MB, and 400 MB with 4:2:0 subsampling (measured: 316 MB for 108 MP)."""

BLOCK_BYTES = 64 << 20
"""The size of the blocks in which Pillow allocates images."""

NO_MEMORY = "There is not enough memory to decode the image. Send a smaller copy, or try again later."
PIXELS_IN_ERROR = re.compile(r"\((\d+) pixels\)")


def _silence_libraries() -> None:
    """Keep Pillow and its libraries from printing; `ImageError` reports damaged files instead.

    Done once, at import, because `warnings.catch_warnings` and redirecting stderr affect other threads. libtiff prints
    from C; its error handler is reached through Pillow's binary, and libtiff still prints if that exports none.
    """
    warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    try:
        libtiff = ctypes.CDLL(_imaging.__file__)
        libtiff.TIFFSetErrorHandler.restype = ctypes.c_void_p
        libtiff.TIFFSetErrorHandler(None)
    except (AttributeError, OSError, TypeError):
        pass


def _use_large_blocks() -> None:
    """Make Pillow allocate large images in blocks that malloc returns to the system when an image is freed.

    glibc keeps freed blocks of up to 32 MiB for their thread, and Pillow's default is 16 MiB: after six threads had
    decoded 64 megapixels, one after the other, the process held 1.3 GB. Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    if _imaging.get_block_size() < BLOCK_BYTES:
        _imaging.set_block_size(BLOCK_BYTES)


_silence_libraries()
_use_large_blocks()


def decode_pixels(data: bytes) -> Image.Image:
    """The first frame of an image file, as an upright image of mode RGB with transparency on white.

    Raises `ImageError` for a too large, damaged or unsupported file.
    """
    try:
        return _decode(data)
    except MemoryError:
        raise ImageError(NO_MEMORY, code="busy") from None


def _decode(data: bytes) -> Image.Image:
    reduction = _reduction(data)
    try:
        image = _try_decoding(data, reduction)
    except ImageError:
        # Pillow reads a wrong size from a GIF that has an extension block without content
        image = _try_rebuilding(data, reduction) if data.startswith(b"GIF8") else None
        if image is None:
            raise
    image = image or _try_rebuilding(data, reduction)
    if image is None:
        raise formats.explain_failure(data, has_heif=heif.is_installed())
    return image


def _try_decoding(data: bytes, reduction: int, orientation: int | None = None) -> Image.Image | None:
    """The image, or None if the bytes cannot be decoded. If `orientation` is None, the file's own is applied."""
    try:
        image = _open_image(data, reduction)
        image.load()
        if image.mode == "L" and (level := png.transparent_grey(data)) is not None:
            image.info["transparency"] = level
        if orientation is None:
            orientation = orientations.from_image(image)
        return orientations.make_upright(flattening.flatten(image), orientation)
    except ImageError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, … for damaged files
        if _is_out_of_memory(error):
            raise MemoryError from None
        return None


def _try_rebuilding(data: bytes, reduction: int) -> Image.Image | None:
    """The image decoded from the rebuilt file, or None if rebuilding or decoding fails."""
    try:
        rebuilt, orientation = _rebuild(data, reduction)
    except MemoryError:
        raise
    except Exception:  # a hostile file may be wrong in any way
        return None
    return _try_decoding(rebuilt, reduction, orientation) if rebuilt else None


def _rebuild(data: bytes, reduction: int) -> tuple[bytes | None, int | None]:
    """The rebuilt file or None, and the image's orientation, or None if the rebuilt file still has it."""
    if data.startswith(jpeg.START):
        return jpeg_repair.rebuild_jpeg(data, reduction=reduction), jpeg.orientation(data)
    if data.startswith(png.SIGNATURE):
        return png.rebuild_png(data, max_pixels=MAX_PIXELS), png.orientation(data)
    if formats.is_webp(data):
        return containers.rebuild_webp(data), containers.webp_orientation(data)
    if data.startswith(formats.TIFF_STARTS):
        return tiff.rebuild_tiff(data), None
    if data.startswith(b"GIF8"):
        return containers.rebuild_gif(data), None
    return (containers.rebuild_heif(data) if data[4:8] == b"ftyp" else None), None


def _open_image(data: bytes, reduction: int) -> Image.Image:
    """The opened image, not decoded yet. Raises `ImageError` beyond `MAX_PIXELS`, any exception for damaged bytes."""
    image = jpeg.open_reduced(data, reduction) if reduction > 1 else _open_full(data)
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(image.width * image.height)
    return image


def _open_full(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=formats.FORMATS)
    except Image.DecompressionBombError as error:
        count = PIXELS_IN_ERROR.search(str(error))
        raise _too_large(int(count[1]) if count else None) from None
    except Exception:
        if not (formats.is_heif(data[:512]) and heif.is_installed()):
            raise
        return heif.open_heif(data)


def _reduction(data: bytes) -> int:
    """By how much to divide a large JPEG's sides; 1 for other images. Raises `ImageError` beyond a JPEG's limits."""
    header = jpeg.read_header(data) if data.startswith(jpeg.START) else None
    if header is None or header.pixels <= MAX_PIXELS:
        return 1
    if header.pixels > MAX_JPEG_PIXELS:
        size = _megapixels(header.pixels, MAX_JPEG_PIXELS)
        raise ImageError(
            f"The image has {size}. The limit for a JPEG is {MAX_JPEG_PIXELS // 1_000_000} megapixels. Send a smaller "
            "copy.",
            code="too_large",
            detail="pixels",
            values={"megapixels": MAX_JPEG_PIXELS // 1_000_000},
        )
    limit = MAX_COMPONENTS // len(header.sampling)
    if not header.is_streamed and header.pixels > limit:
        raise ImageError(
            f"The image has {_megapixels(header.pixels, limit)}. The limit for such a progressive JPEG is "
            f"{max(limit, MAX_PIXELS) // 1_000_000} megapixels. Save it as a JPEG that is not progressive, or send a "
            "smaller copy.",
            code="too_large",
        )
    return header.reduction(MAX_PIXELS)


def _too_large(pixels: int | None) -> ImageError:
    size = "too many pixels" if pixels is None else _megapixels(pixels, MAX_PIXELS)
    return ImageError(
        f"The image has {size}. The limit is {MAX_PIXELS // 1_000_000} megapixels, or {MAX_JPEG_PIXELS // 1_000_000} "
        "for a JPEG. Send a smaller copy.",
        code="too_large",
        detail="pixels",
        values={"megapixels": MAX_PIXELS // 1_000_000},
    )


def _megapixels(pixels: int, limit: int) -> str:
    """`pixels` in megapixels, with enough decimals to show that it is above `limit`."""
    decimals = next(decimals for decimals in range(7) if round(pixels / 1e6, decimals) > limit / 1e6 or decimals == 6)
    return f"{pixels / 1e6:.{decimals}f} megapixels"


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()
