"""The name and content of a text file with a caption.

Depends on names only; must not import anything that reads or writes files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from blip_space import images
from blip_space.errors import UserError


@dataclass(frozen=True)
class TextFormat:
    """The extension of text files, and the texts before and after the caption."""

    extension: str = ".txt"
    prefix: str = ""
    suffix: str = ""

    def content(self, caption: str) -> bytes:
        """The content of the file. The caption is on one line, since some tools read the first line only."""
        return f"{self.prefix}{' '.join(caption.split())}{self.suffix}".encode("utf-8", "backslashreplace")


def parse_text_format(extension: str, prefix: str, suffix: str) -> TextFormat:
    """`UserError` for an extension that is invalid or an image's."""
    dotted = extension if extension.startswith(".") else f".{extension}"
    if len(dotted) < 2 or "/" in dotted or "\\" in dotted or dotted.lower() in images.EXTENSIONS:
        raise UserError(
            f"--extension {extension!r} is not the extension of a text file. Name one such as .txt or .caption."
        )
    return TextFormat(dotted, prefix, suffix)


def text_names(files: Iterable[str], extension: str) -> dict[str, str]:
    """The text file of each image: the name with the extension replaced, or appended where two would collide."""
    return disambiguate({file: f"{stem(file)}{extension}" for file in files}, extension)


def disambiguate(names: dict[str, str], extension: str) -> dict[str, str]:
    """The same names, made of the full names for files that would share one."""
    while shared := {name for name, count in Counter(names.values()).items() if count > 1}:
        # repeated: a.jpg and a.png become a.jpg.txt and a.png.txt, and the latter is also the name for a.png.webp
        for file, name in names.items():
            if name in shared:
                names[file] = f"{file}{extension}"
    return names


def stem(file: str) -> str:
    """A name without its image extension; any other extension stays."""
    path = PurePosixPath(file)
    return str(path.with_suffix("")) if path.suffix.lower() in images.EXTENSIONS else file
