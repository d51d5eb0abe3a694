"""A disk that loses whatever was not synced at a power failure; killing a process loses nothing."""

from __future__ import annotations

import io
from pathlib import Path

from blip_space.jobs.durable_files import Disk


class LossyDisk(Disk):
    """Real files, and what a disk would have of each: a new or renamed file exists once its folder is synced, with the
    content that was synced."""

    def __init__(self) -> None:
        self._contents: dict[int, bytes] = {}
        """Contents by inode."""

        self._inodes: dict[Path, int] = {}
        """Inodes by the names that are on the disk."""

        self._folders = set[Path]()

    def sync(self, file: io.FileIO) -> None:
        super().sync(file)
        with io.FileIO(f"/proc/self/fd/{file.fileno()}") as again:
            self._contents[inode(Path(f"/proc/self/fd/{file.fileno()}"))] = again.readall()

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        self._folders.add(folder)
        self._inodes = {name: number for name, number in self._inodes.items() if name.parent != folder}
        self._inodes |= {path: inode(path) for path in folder.iterdir() if path.is_file()}

    def lose_power(self) -> None:
        """Reset all synced folders to what was synced."""
        for folder in self._folders:
            for path in folder.iterdir():
                if path.is_file():
                    path.unlink()
        for path, number in self._inodes.items():
            path.write_bytes(self._contents.get(number, b""))


def inode(path: Path) -> int:
    return path.stat().st_ino
