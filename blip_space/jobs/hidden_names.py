"""Recognises hidden files and folders by name: a dot at the beginning, or a name that an operating system uses.

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
"""Names of folders that macOS, Windows, network storage, version control, caches, Jupyter, Python and Linux make."""

SYSTEM_FILES = frozenset({".DS_Store", "Icon\r", "Thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"})
"""Names of files that macOS and Windows make. Most of their other files begin with a dot, for example `._photo.jpg`."""

CASE_INSENSITIVE = frozenset(
    name.lower()
    for name in SYSTEM_FOLDERS | SYSTEM_FILES
    if name not in ("lost+found", "__pycache__", "@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot")
)
"""The names above that are compared in lower case, because the systems that use them ignore case."""


def is_hidden(name: str) -> bool:
    """Whether any part of a relative name with slashes is hidden. The parts `.` and `..` do not count as hidden."""
    return any(_is_hidden_part(part) for part in name.split("/"))


def _is_hidden_part(part: str) -> bool:
    if part.startswith("."):
        return part not in (".", "..")
    return part in SYSTEM_FOLDERS or part in SYSTEM_FILES or part.lower() in CASE_INSENSITIVE
