"""Which names a person does not see, in folders and in zips: what begins with a dot and what machines make.

Knows names; opens no file.
"""

from __future__ import annotations

MACHINE_FOLDERS = frozenset(
    {
        *("__MACOSX", ".AppleDouble", ".Trashes", ".fseventsd", ".Spotlight-V100", ".TemporaryItems"),
        *("Network Trash Folder", "Temporary Items"),
        *("$RECYCLE.BIN", "RECYCLER", "System Volume Information", "FOUND.000"),
        *("@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", ".@__thumb"),
        *(".git", ".svn", ".hg", ".cache", ".thumbnails", ".ipynb_checkpoints", "__pycache__", "lost+found"),
    }
)
"""Folders of macOS, Windows, network storage (Synology, QNAP), version control, caches, Jupyter and Linux."""

MACHINE_FILES = frozenset({".DS_Store", "Icon\r", "Thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"})
"""Files of macOS and Windows. Other files of theirs begin with a dot, as `._photo.jpg` does."""

CASELESS = frozenset(
    name.lower()
    for name in MACHINE_FOLDERS | MACHINE_FILES
    if name not in ("lost+found", "__pycache__", "@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot")
)
"""The names of systems that do not distinguish upper from lower case."""


def is_hidden(name: str) -> bool:
    """Whether any part of a relative name with slashes begins with a dot or is the name of what a machine made.

    The parts `.` and `..` lead somewhere and hide nothing.
    """
    return any(_is_hidden_part(part) for part in name.split("/"))


def _is_hidden_part(part: str) -> bool:
    if part.startswith("."):
        return part not in (".", "..")
    return part in MACHINE_FOLDERS or part in MACHINE_FILES or part.lower() in CASELESS
