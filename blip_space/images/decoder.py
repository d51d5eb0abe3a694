"""The bytes of an image become upright 8-bit RGB pixels, or a sentence.

Pillow decodes the bytes as they are. Only where it fails is the file rebuilt around what decides its pixels and decoded
again, so that text, profiles, EXIF and missing end marks do not decide whether an image is read.
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
"""Of every format at full size. A 64-megapixel RGB image takes 256 MB in Pillow, which stores 4 bytes a pixel."""

MAX_JPEG_PIXELS = 200_000_000
"""Of a JPEG, which is decoded at 1/2, 1/4 or 1/8 of its size above `MAX_PIXELS`.

Measured with Pillow 12.3: decoding a baseline JPEG of 200 megapixels at 1/8 raises the peak memory by 25 MB beside the
bytes of its file.
"""

MAX_COMPONENTS = 400_000_000
"""Of a progressive JPEG above `MAX_PIXELS`, width × height × components: libjpeg holds 2 bytes of each that is stored,
whatever the reduction. Measured with the usual halved colours: 316 MB for 108 megapixels, so 400 MB at most, and 800 MB
where they are not halved."""

BLOCK_BYTES = 64 << 20
"""Of what Pillow asks for at a time."""

NO_MEMORY = "There is not enough memory to decode the picture. Send a smaller copy, or try again later."
PIXELS_IN_ERROR = re.compile(r"\((\d+) pixels\)")


def _silence_libraries() -> None:
    """Keep Pillow and what it decodes with from writing to the user's screen: their findings become our sentences.

    Done once, at import, because `warnings.catch_warnings` and redirecting stderr change what other threads do. libtiff
    prints from C; its handler is reached through Pillow's own binary, and where that exports none it goes on printing.
    """
    warnings.filterwarnings("ignore", module=r"(PIL|pillow_heif)\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    try:
        libtiff = ctypes.CDLL(_imaging.__file__)
        libtiff.TIFFSetErrorHandler.restype = ctypes.c_void_p
        libtiff.TIFFSetErrorHandler(None)
    except (AttributeError, OSError, TypeError):
        pass


def _give_memory_back() -> None:
    """Have Pillow ask for large images in pieces that malloc gives back to the system when an image is gone.

    glibc keeps pieces of up to 32 MiB for the thread that had them, and Pillow's are of 16: six threads that decoded 64
    megapixels one after the other held 1.3 GB. Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    if _imaging.get_block_size() < BLOCK_BYTES:
        _imaging.set_block_size(BLOCK_BYTES)


_silence_libraries()
_give_memory_back()


def decode_pixels(data: bytes) -> Image.Image:
    """The first frame of an image's bytes: mode RGB, upright, on white where it is transparent.

    Raises `ImageError` with a sentence for what is too large, damaged or of another format.
    """
    try:
        return _decoded(data)
    except MemoryError:
        raise ImageError(NO_MEMORY) from None


def _decoded(data: bytes) -> Image.Image:
    reduction = _reduction(data)
    try:
        image = _attempt(data, reduction)
    except ImageError:
        # behind an extension without content Pillow takes pixels for the size of a GIF's image
        image = _attempt_rebuilt(data, reduction) if data.startswith(b"GIF8") else None
        if image is None:
            raise
    image = image or _attempt_rebuilt(data, reduction)
    if image is None:
        raise ImageError(formats.failure(data, heif_is_read=heif.is_installed()))
    return image


def _attempt(data: bytes, reduction: int, orientation: int | None = None) -> Image.Image | None:
    """The image as it is asked for, or None where the bytes cannot be decoded.

    The file's own orientation counts where it says one, else the one that is given.
    """
    try:
        image = _open(data, reduction)
        image.load()
        if image.mode == "L" and (level := png.transparent_grey(data)) is not None:
            image.info["transparency"] = level
        turn = orientations.of_image(image) if orientation is None else orientation
        image = flattening.flat(image)
        return orientations.upright(image, turn)
    except ImageError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …, all for one reason
        if _is_out_of_memory(error):
            raise MemoryError from None
        return None


def _attempt_rebuilt(data: bytes, reduction: int) -> Image.Image | None:
    """The image of the file as it is rebuilt around its pixels, or None where that is not possible either."""
    try:
        rebuilt, orientation = _rebuild(data, reduction)
    except MemoryError:
        raise
    except Exception:  # a hostile file may be wrong in any way
        return None
    return _attempt(rebuilt, reduction, orientation) if rebuilt else None


def _rebuild(data: bytes, reduction: int) -> tuple[bytes | None, int | None]:
    """The rebuilt file, and its orientation where the rebuilt file does not say it itself."""
    if data.startswith(jpeg.START):
        return jpeg_repair.rebuild(data, reduction=reduction), jpeg.orientation(data)
    if data.startswith(png.SIGNATURE):
        return png.rebuild(data, max_pixels=MAX_PIXELS), png.orientation(data)
    if formats.is_webp(data):
        return containers.rebuild_webp(data), containers.webp_orientation(data)
    if data.startswith(formats.TIFF_STARTS):
        return tiff.rebuild(data), None
    if data.startswith(b"GIF8"):
        return containers.rebuild_gif(data), None
    return (containers.rebuild_heif(data) if data[4:8] == b"ftyp" else None), None


def _open(data: bytes, reduction: int) -> Image.Image:
    """A lazy image whose size is allowed. `ImageError` for a larger one, whatever the decoder raises for no image."""
    image = jpeg.open_reduced(data, reduction) if reduction > 1 else _open_full(data)
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(_too_large(image.width * image.height))
    return image


def _open_full(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=formats.FORMATS)
    except Image.DecompressionBombError as error:
        count = PIXELS_IN_ERROR.search(str(error))
        raise ImageError(_too_large(int(count[1]) if count else None)) from None
    except Exception:
        if not (formats.is_heif(data[:512]) and heif.is_installed()):
            raise
        return heif.open_heif(data)


def _reduction(data: bytes) -> int:
    """By what the sides of a large JPEG are divided; 1 for all others. `ImageError` where even that is not enough."""
    header = jpeg.read_header(data) if data.startswith(jpeg.START) else None
    if header is None or header.pixels <= MAX_PIXELS:
        return 1
    if header.pixels > MAX_JPEG_PIXELS:
        size = _megapixels(header.pixels, MAX_JPEG_PIXELS)
        raise ImageError(
            f"The picture is too large ({size}): of a JPEG at most {MAX_JPEG_PIXELS // 1_000_000} megapixels are read. "
            "Send a smaller copy."
        )
    most = MAX_COMPONENTS // len(header.sampling)
    if not header.is_streamed and header.pixels > most:
        raise ImageError(
            f"The picture is too large ({_megapixels(header.pixels, most)}): of a progressive JPEG of its kind at most "
            f"{max(most, MAX_PIXELS) // 1_000_000} megapixels are read. Save it as a JPEG that is not progressive, or "
            "send a smaller copy."
        )
    return header.reduction(MAX_PIXELS)


def _too_large(pixels: int | None) -> str:
    size = "far more than that" if pixels is None else _megapixels(pixels, MAX_PIXELS)
    return (
        f"The picture is too large ({size}): at most {MAX_PIXELS // 1_000_000} megapixels are read, and of a JPEG "
        f"{MAX_JPEG_PIXELS // 1_000_000}. Send a smaller copy."
    )


def _megapixels(pixels: int, limit: int) -> str:
    """A number of pixels that exceeds a limit, with as many decimals as show that."""
    places = next(places for places in range(7) if round(pixels / 1e6, places) > limit / 1e6 or places == 6)
    return f"{pixels / 1e6:.{places}f} megapixels"


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "out of memory" in str(error).lower()
