"""A disk that forgets, at a loss of power, whatever was not synced; a kill alone keeps the system's memory of it."""

from __future__ import annotations

import io
from pathlib import Path

from blip_space.jobs.durable_files import Disk


class LossyDisk(Disk):
    """Real files, and beside them what a real disk would hold of each. A file that is new, or was renamed, is there
    once its folder was synced; its content is what was synced of it."""

    def __init__(self) -> None:
        self._synced: dict[int, bytes] = {}
        """By inode."""

        self._named: dict[Path, int] = {}
        """Which names the disk knows, and of which inode."""

        self._folders = set[Path]()

    def sync(self, file: io.FileIO) -> None:
        super().sync(file)
        with io.FileIO(f"/proc/self/fd/{file.fileno()}") as again:
            self._synced[inode(Path(f"/proc/self/fd/{file.fileno()}"))] = again.readall()

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        self._folders.add(folder)
        self._named = {name: number for name, number in self._named.items() if name.parent != folder}
        self._named |= {path: inode(path) for path in folder.iterdir() if path.is_file()}

    def lose_power(self) -> None:
        """Have only what was synced in the folders that were."""
        for folder in self._folders:
            for path in folder.iterdir():
                if path.is_file():
                    path.unlink()
        for path, number in self._named.items():
            path.write_bytes(self._synced.get(number, b""))


def inode(path: Path) -> int:
    return path.stat().st_ino
