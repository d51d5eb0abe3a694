"""Hidden names in folders and zips: those that begin with a dot, and files and folders of operating systems.

Depends on names only; must not open files.
"""

from __future__ import annotations

SYSTEM_FOLDERS = frozenset(
    {
        *("__MACOSX", ".AppleDouble", ".Trashes", ".fseventsd", ".Spotlight-V100", ".TemporaryItems"),
        *("Network Trash Folder", "Temporary Items"),
        *("$RECYCLE.BIN", "RECYCLER", "System Volume Information", "FOUND.000"),
        *("@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", ".@__thumb"),
        *(".git", ".svn", ".hg", ".cache", ".thumbnails", ".ipynb_checkpoints", "__pycache__", "lost+found"),
    }
)
"""Folders of macOS, Windows, network storage (Synology, QNAP), version control, caches, Jupyter and Linux."""

SYSTEM_FILES = frozenset({".DS_Store", "Icon\r", "Thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"})
"""Files of macOS and Windows; most others of theirs begin with a dot, as `._photo.jpg` does."""

CASE_INSENSITIVE = frozenset(
    name.lower()
    for name in SYSTEM_FOLDERS | SYSTEM_FILES
    if name not in ("lost+found", "__pycache__", "@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot")
)
"""Names of systems that are case-insensitive."""


def is_hidden(name: str) -> bool:
    """Whether any part of a relative name (with slashes) is hidden; the parts `.` and `..` are not."""
    return any(_is_hidden_part(part) for part in name.split("/"))


def _is_hidden_part(part: str) -> bool:
    if part.startswith("."):
        return part not in (".", "..")
    return part in SYSTEM_FOLDERS or part in SYSTEM_FILES or part.lower() in CASE_INSENSITIVE
