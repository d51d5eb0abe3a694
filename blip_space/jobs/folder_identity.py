"""Whether a folder is the one that a file of lines is about, wherever it lies by now.

Depends on lines and on the bytes of files; must not import anything that loads models.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from blip_space import images
from blip_space.errors import ImageError, UserError
from blip_space.jobs.folder_listing import find_images, locate, printable_name
from blip_space.jobs.output_log import OutputLog

SAMPLE = 200
"""So many files are looked at before the whole folder is."""


def refuse_other_folder(ledger: OutputLog, folder: Path) -> None:
    """`UserError` where the lines are about other images: none of them is here under any name, or more of the names
    that both have show something else here than they do in the lines, and most of what those show is not here at all.
    """
    known = _digests_by_name(ledger)
    digests = {digest for found in known.values() for digest in found}
    equal, other = _compare(known, folder)
    if not digests or (equal and equal >= other):
        return
    here = {
        digest
        for file in find_images(folder, recursive=True, pattern=None, limit=None).names
        if (digest := _digest(locate(folder, file)))
    } & digests
    if here and (not other or 2 * len(here) >= len(digests)):
        return  # renamed, or a part of it
    held = f"only {len(here):,} of the {len(digests):,}" if here else f"none of the {len(digests):,}"
    raise UserError(
        f"{ledger.path.name} is about other images: {held} in it lie in {printable_name(folder.resolve().name)!r}. Name another "
        "--output, caption the folder that holds both with --recursive, or, where all images were changed, begin it "
        "again with --existing overwrite."
    )


def _digests_by_name(ledger: OutputLog) -> dict[str, set[str]]:
    known: dict[str, set[str]] = {}
    for file, key in ledger.entries:
        if key[0]:
            known.setdefault(file, set()).add(key[0])
    return known


def _compare(known: Mapping[str, set[str]], folder: Path) -> tuple[int, int]:
    """Of files that have a line, spread over the list: how many show what they did, and how many something else."""
    names = sorted(known)
    found = [(_digest(locate(folder, name)), known[name]) for name in names[:: max(1, len(names) // SAMPLE)]]
    equal = sum(digest in digests for digest, digests in found if digest)
    return equal, sum(digest not in digests for digest, digests in found if digest)


def _digest(path: Path) -> str | None:
    try:
        return images.digest(images.read_file(path, max_bytes=images.MAX_FILE_BYTES))
    except ImageError:
        return None
