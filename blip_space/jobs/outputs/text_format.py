"""Determines the name and the content of the text file that has an image's caption.

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
        """The content of the text file for a caption, in UTF-8. It is one line, as some tools read only the first."""
        return f"{self.prefix}{' '.join(caption.split())}{self.suffix}".encode("utf-8", "backslashreplace")


def parse_text_format(extension: str, prefix: str, suffix: str) -> TextFormat:
    """The format for these command-line options. `UserError` if the extension is invalid or an image's."""
    dotted = extension if extension.startswith(".") else f".{extension}"
    if len(dotted) < 2 or "/" in dotted or "\\" in dotted or dotted.lower() in images.EXTENSIONS:
        raise UserError(
            f"--extension {extension!r} is not the extension of a text file. Name one such as .txt or .caption."
        )
    return TextFormat(dotted, prefix, suffix)


def text_names(files: Iterable[str], extension: str) -> dict[str, str]:
    """The text file's name for each image: with `extension` in place of the image's, or after it if names collide."""
    return disambiguate({file: f"{stem(file)}{extension}" for file in files}, extension)


def disambiguate(names: dict[str, str], extension: str) -> dict[str, str]:
    """`names` with unique values: if several files share one, each gets its full name with `extension` appended."""
    while shared := {name for name, count in Counter(names.values()).items() if count > 1}:
        # repeated, because a new name may be shared too: a.png gets a.png.txt, which a.png.webp has already
        for file, name in names.items():
            if name in shared:
                names[file] = f"{file}{extension}"
    return names


def stem(file: str) -> str:
    """The name `file` without its extension if that is an image's; any other extension stays."""
    path = PurePosixPath(file)
    return str(path.with_suffix("")) if path.suffix.lower() in images.EXTENSIONS else file
