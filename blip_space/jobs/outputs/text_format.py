"""How a caption becomes a text file: what the file is called and what stands in it.

Depends on names; must not import anything that reads or writes files.
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
    """How a caption becomes a text file: its ending, and what stands around the caption."""

    extension: str = ".txt"
    prefix: str = ""
    suffix: str = ""

    def content(self, caption: str) -> bytes:
        """The file's content. The caption stands on one line, the first being all that some tools read."""
        return f"{self.prefix}{' '.join(caption.split())}{self.suffix}".encode("utf-8", "backslashreplace")


def parse_text_format(extension: str, prefix: str, suffix: str) -> TextFormat:
    """`UserError` for an ending that is none, or an image's."""
    ending = extension if extension.startswith(".") else f".{extension}"
    if len(ending) < 2 or "/" in ending or "\\" in ending or ending.lower() in images.EXTENSIONS:
        raise UserError(f"--extension {extension!r} is no ending of a text file. Name one such as .txt or .caption.")
    return TextFormat(ending, prefix, suffix)


def text_names(files: Iterable[str], extension: str) -> dict[str, str]:
    """Each file's text: its name with the other ending, or its whole name before that where two would share one."""
    return disambiguate({file: f"{stem(file)}{extension}" for file in files}, extension)


def disambiguate(names: dict[str, str], extension: str) -> dict[str, str]:
    """The names again, with whole ones for files that would share one."""
    while taken := {name for name, count in Counter(names.values()).items() if count > 1}:
        # again, since a.jpg and a.png become a.jpg.txt and a.png.txt, and the latter is also what a.png.webp has
        for file, name in names.items():
            if name in taken:
                names[file] = f"{file}{extension}"
    return names


def stem(file: str) -> str:
    """A name without its ending; what does not end as images do is no ending."""
    path = PurePosixPath(file)
    return str(path.with_suffix("")) if path.suffix.lower() in images.EXTENSIONS else file
