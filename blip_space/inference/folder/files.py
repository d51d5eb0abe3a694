"""Which pictures of a folder are meant.

Knows names; opens no file.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from blip_space.errors import UserError

ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif"}
)
"""What is taken for a picture; those that cannot be read become a line that says so."""


def find(folder: Path, *, recursive: bool, pattern: str | None, limit: int | None) -> list[str]:
    """The files' names relative to the folder, with slashes, in order. `UserError` where there is none.

    A `pattern` such as `*.jpg` takes what it matches, whatever its ending.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder.name!r}. Check its name.")
    found = folder.rglob(pattern or "*") if recursive else folder.glob(pattern or "*")
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in found
        if path.is_file() and (pattern or path.suffix.lower() in ENDINGS) and not path.name.startswith(".")
    )
    if not names:
        where = "" if recursive else " Its folders are looked into with --recursive."
        raise UserError(f"There is no picture in {folder.name!r}.{where}")
    return names[:limit]


def refuse_twins(names: list[str]) -> None:
    """`UserError` where two pictures of a folder would share one text file."""
    stems: dict[str, list[str]] = defaultdict(list)
    for name in names:
        stems[str(Path(name).with_suffix(""))].append(name)
    twins = next((pair for pair in stems.values() if len(pair) > 1), None)
    if twins:
        raise UserError(
            f"{twins[0]} and {twins[1]} would share one text file. Rename one of them, or choose another --format."
        )
