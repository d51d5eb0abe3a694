"""Whether an output log is about this folder, which may have been moved.

Depends on the output log and on digests of files; must not import anything that loads models.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from blip_space.errors import UserError
from blip_space.jobs.folder_listing import find_images, image_digest, printable_name
from blip_space.jobs.output_log import OutputLog

SAMPLE_FILES = 200
"""Files whose digests are compared before those of all files are."""


def refuse_other_folder(output_log: OutputLog, folder: Path) -> None:
    """`UserError` where the log is about other images: the folder has none of them under any name, or most of the names
    that it shares with the log are of changed images and most images of the log are not in it."""
    digests_by_name = defaultdict[str, set[str]](set)
    for file, (digest, *_) in output_log.entries:
        if digest:
            digests_by_name[file].add(digest)
    digests = {digest for known in digests_by_name.values() for digest in known}
    same, changed = _compare(digests_by_name, folder)
    if not digests or (same and same >= changed):
        return
    here = {
        digest
        for file in find_images(folder, recursive=True, pattern=None, limit=None).names
        if (digest := image_digest(folder, file))
    } & digests
    if here and (not changed or 2 * len(here) >= len(digests)):
        return  # renamed, or a part of the folder
    present = f"only {len(here):,} of the {len(digests):,}" if here else f"none of the {len(digests):,}"
    raise UserError(
        f"{output_log.path.name} is about other images: {present} in it are in "
        f"{printable_name(folder.resolve().name)!r}. Name another --output, caption the folder above both with "
        "--recursive, or, where all images were changed, start over with --existing overwrite."
    )


def _compare(known: Mapping[str, set[str]], folder: Path) -> tuple[int, int]:
    """Of a sample of the files in the log: how many are the same image as in it, and how many are another."""
    names = sorted(known)
    pairs = [(image_digest(folder, name), known[name]) for name in names[:: max(1, len(names) // SAMPLE_FILES)]]
    same = sum(digest in digests for digest, digests in pairs if digest)
    return same, sum(digest not in digests for digest, digests in pairs if digest)
