"""Whether a folder is the one that a file of lines is about, wherever it lies by now.

Depends on lines and on the bytes of files; must not import anything that loads models.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from blip_space import images
from blip_space.errors import ImageError, UserError
from blip_space.inference.folder.files import find, locate, shown
from blip_space.inference.folder.ledger import Ledger


def refuse_other_folder(ledger: Ledger, folder: Path) -> None:
    """`UserError` where none of the images that have a line is in the folder, under its name or another."""
    digests = {key[0] for _, key in ledger.lines if key[0]}
    if not digests or any(digest in digests for digest in _digests(ledger, folder)):
        return
    raise UserError(
        f"{ledger.path.name} is about other images: none of the {len(digests):,} that it holds is in "
        f"{shown(folder.name)!r}. Name another --output, caption the folder that holds both with --recursive, or begin "
        "it again with --existing overwrite."
    )


def _digests(ledger: Ledger, folder: Path) -> Iterator[str]:
    """Of the files that have a line, which mostly answers with the first; then of all others."""
    listed = dict.fromkeys(sorted(file for file, _ in ledger.lines))
    yield from filter(None, (_digest(locate(folder, file)) for file in listed))
    for file in find(folder, recursive=True, pattern=None, limit=None).names:
        if file not in listed and (digest := _digest(locate(folder, file))):
            yield digest


def _digest(path: Path) -> str | None:
    try:
        return images.digest(images.read(path, max_bytes=images.MAX_FILE_BYTES))
    except ImageError:
        return None
