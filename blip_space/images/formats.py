"""The supported image formats, their extensions and first bytes, and the error messages for other files.

Depends on names and first bytes only; must not decode anything.
"""

from __future__ import annotations

import struct

from PIL import Image, features

from blip_space.errors import ImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Pillow's names of the supported formats. HEIC is supported too if pillow-heif is installed."""

FORMAT_NAMES = "JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF"
SEND_SUPPORTED = f"Send a {FORMAT_NAMES.replace(' and ', ' or ')} file."

BMP_HEADER_BYTES = frozenset({12, 40, 52, 56, 64, 108, 124})
"""The sizes that the second header of a bitmap file may have (Microsoft's and OS/2's)."""

AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1"}
)
VIDEO_BRANDS = (b"qt  ", b"mp4", b"iso", b"M4V", b"M4A", b"3gp", b"3g2", b"avc1", b"dash", b"f4v", b"MSNV", b"mmp4")
"""Prefixes of a video's major brand (mp4, mov, 3gp); videos have the same container as HEIC and AVIF."""

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", *TIFF_STARTS)
"""First bytes of JPEG, PNG, GIF and TIFF."""

HEIF_PACKAGE = (
    "HEIC and HEIF images are read only if the package pillow-heif is installed (pip install pillow-heif). "
    f"Save it as JPEG; {FORMAT_NAMES} are read."
)
HEIF_DAMAGED = (
    "The HEIC or HEIF image is damaged or was cut off, so it cannot be decoded. Save it as JPEG, or upload it again."
)
DAMAGED = "The image is damaged or was cut off, so it cannot be decoded. Save or upload it again."
APPLE_PNG = (
    "This PNG is in the format that Apple's tools give to the images of an app (CgBI), which other programs do not "
    "read. Convert it with pngcrush -revert-iphone-optimizations, or export it as PNG from Preview on a Mac."
)
NO_AVIF = (
    "AVIF images are not read here, because this Pillow was built without AVIF (pip install --upgrade pillow has "
    "it). Save it as JPEG."
)
ARE_READ = f"{FORMAT_NAMES} are read."
VIDEO = f"Videos are not read. Save one frame of it as an image; {ARE_READ}"
RAW = f"Raw files of cameras are not read. Export the photograph as JPEG; {ARE_READ}"
WEB_PAGE = f"This is a web page, not an image. Save the image itself from it. {SEND_SUPPORTED}"
SVG = f"SVG drawings are not read. Export the drawing as PNG; {ARE_READ}"

OTHER_FILES = (
    ("JPEG XL", (b"\xff\x0a", b"\0\0\0\x0cJXL "), f"JPEG XL images are not read. Save it as JPEG or PNG; {ARE_READ}"),
    (
        "JPEG 2000",
        (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
        f"JPEG 2000 images are not read. Save it as JPEG or PNG; {ARE_READ}",
    ),
    ("PSD", (b"8BPS",), f"Photoshop files are not read. Export the image as PNG; {ARE_READ}"),
    ("XCF", (b"gimp xcf",), f"GIMP files are not read. Export the image as PNG; {ARE_READ}"),
    ("PDF", (b"%PDF",), f"PDF files are not read. Export the page as PNG; {ARE_READ}"),
    (
        "PostScript",
        (b"%!PS", b"\xc5\xd0\xd3\xc6"),
        f"PostScript files are not read. Export the drawing as PNG; {ARE_READ}",
    ),
    ("ICO", (b"\0\0\1\0", b"icns"), f"Icon files are not read. Save the icon as PNG; {ARE_READ}"),
    (
        "EXR / HDR",
        (b"v/1\1", b"#?RADIANCE"),
        "Images of high dynamic range (EXR, HDR) are not read. Save it as PNG.",
    ),
    ("RAW", (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0"), RAW),
    ("video", (b"\x1aE\xdf\xa3", b"FLV", b"\0\0\1\xba"), VIDEO),
    (
        "Git LFS",
        (b"version https://git-lfs",),
        "This is only the pointer that Git LFS keeps in place of the file. Run git lfs pull, and send the file itself.",
    ),
)
"""The name of each kind of unsupported files, their first bytes, and the error message."""

MORE_EXTENSIONS = frozenset(
    {
        *(".heic", ".heics", ".heif", ".heifs", ".hif", ".avif", ".avifs", ".mpo", ".apng", ".dib"),
        *(".jfi", ".jif", ".pjp", ".pjpeg", ".jpg_large", ".jpg_orig", ".jpg:large", ".jpg:orig", ".jpg-large"),
        *(".jpeg_large", ".jpeg:large", ".png_large", ".png:large"),
    }
)
"""Further extensions of these formats, which Pillow does not register but which occur."""


def find_extensions() -> frozenset[str]:
    """The extensions of the supported formats and of HEIC, lower-case and with their dot."""
    return MORE_EXTENSIONS | {extension for extension, name in Image.registered_extensions().items() if name in FORMATS}


def is_image(head: bytes) -> bool:
    """Whether the first bytes of a file (32 are enough) are those of a supported format or of HEIC."""
    return head.startswith(SIGNATURES) or is_webp(head) or is_bmp(head) or is_avif(head) or is_heif(head)


def is_avif(head: bytes) -> bool:
    """Whether the first bytes of a file are those of an AVIF."""
    is_heif_by_major = head[8:11] in (b"hei", b"hev")
    return not _is_video(head) and not is_heif_by_major and bool(AVIF_BRANDS & _brands(head))


def is_heif(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a HEIC or HEIF, and not of an AVIF."""
    return not _is_video(head) and not is_avif(head) and bool(HEIF_BRANDS & _brands(head))


def is_webp(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a WebP."""
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def is_bmp(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a bitmap: `BM`, and a second header of a valid size."""
    return head[:2] == b"BM" and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in BMP_HEADER_BYTES


def explain_failure(data: bytes, *, has_heif: bool) -> ImageError:
    """The error for a file that could not be decoded. `has_heif`: whether pillow-heif is installed."""
    if data[12:16] == b"CgBI":
        return _unsupported("CgBI", APPLE_PNG)
    if is_heif(data[:512]):
        return ImageError(HEIF_DAMAGED, detail="damaged") if has_heif else _unsupported("HEIC", HEIF_PACKAGE)
    if is_avif(data[:512]) and not features.check("avif"):
        return _unsupported("AVIF", NO_AVIF)
    if is_image(data[:512]) and not _is_raw(data):
        return ImageError(DAMAGED, detail="damaged")
    return _explain_unsupported(data)


def _explain_unsupported(data: bytes) -> ImageError:
    start = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<svg", b"<?xml", b"<!doctype svg")):
        return _unsupported("SVG", SVG)
    if start.startswith((b"<!doctype html", b"<html")):
        return _unsupported("HTML", WEB_PAGE)
    if _is_raw(data):
        return _unsupported("RAW", RAW)
    if _is_video(data[:512]) or (data[:4] == b"RIFF" and data[8:12] == b"AVI "):
        return _unsupported("video", VIDEO)
    unknown = ImageError(f"The file is not an image that can be read, whatever its extension. {SEND_SUPPORTED}")
    kinds = (_unsupported(kind, message) for kind, starts, message in OTHER_FILES if data.startswith(starts))
    return next(kinds, unknown)


def _unsupported(kind: str, message: str) -> ImageError:
    """The error for a file of an unsupported kind: a format's name, or `video`."""
    if kind == "video":
        return ImageError(message, detail="video")
    return ImageError(message, detail="format", values={"format": kind})


def _is_raw(data: bytes) -> bool:
    """Whether the file is a Canon raw file: CR2 (a TIFF with a marker) or CR3 (in the container of HEIC)."""
    return (data.startswith(TIFF_STARTS) and data[8:10] == b"CR") or data[4:12] == b"ftypcrx "


def _is_video(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12].startswith(VIDEO_BRANDS)


def _brands(head: bytes) -> set[bytes]:
    """The major and the compatible brands of a file in MP4's container; an empty set for any other file."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(len(head), max(struct.unpack_from(">I", head)[0], 12))
    return {head[8:12]} | {head[start : start + 4] for start in range(16, end - 3, 4)}
