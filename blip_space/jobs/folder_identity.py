"""Checks that the captions in an output log are of the images in a folder, which may have been moved or renamed.

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
"""How many files are compared first; all files of the folder are hashed only if these leave a doubt."""


def refuse_other_folder(output_log: OutputLog, folder: Path) -> None:
    """Raise `UserError` if none of the log's images is in `folder` under any name; or if most of them are not, and most
    files in the folder that have a name from the log are different images."""
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
    present = f"only {len(here):,}" if here else "none"
    raise UserError(
        f"{output_log.path.name} holds captions of other images: {present} of its {len(digests):,} images can be found "
        f"in {printable_name(folder.resolve().name)!r}. Use another --output; or, to cover both folders, caption their "
        "parent with --recursive; or, if all images changed, start over with --existing overwrite."
    )


def _compare(known: Mapping[str, set[str]], folder: Path) -> tuple[int, int]:
    """How many files of a sample have one of the `known` digests for their name, and how many have another digest."""
    names = sorted(known)
    pairs = [(image_digest(folder, name), known[name]) for name in names[:: max(1, len(names) // SAMPLE_FILES)]]
    same = sum(digest in digests for digest, digests in pairs if digest)
    return same, sum(digest not in digests for digest, digests in pairs if digest)
