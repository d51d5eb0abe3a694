"""Runs a program where it may write to named folders only, and where its ports are its own.

It needs Linux and root, for namespaces of mounts and of the network. Standard library only, so that any Python runs it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SET_FLAGS, UP_AND_RUNNING = 0x8914, 0x41
"""SIOCSIFFLAGS, and IFF_UP with IFF_RUNNING, of Linux' netdevice(7)."""

KERNELS = ("/dev", "/proc", "/sys")
"""Mounts of the kernel, shared memory included, which every program may use as it is."""


def are_available() -> bool:
    """Whether this process may create namespaces."""
    command = ["unshare", "--mount", "--net", "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def run_in_new(arguments: Sequence[str]) -> int:
    """Run this Python with these arguments in new namespaces of mounts and of the network; its exit code."""
    return subprocess.run(["unshare", "--mount", "--net", sys.executable, *arguments], check=False).returncode


def start_loopback() -> None:
    """Start the new network's only interface, by which its programs reach each other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SET_FLAGS, struct.pack("16sh", b"lo", UP_AND_RUNNING))


def make_read_only(*writable: Path) -> None:
    """Make every mount of this namespace read-only, except those of the kernel and the folders in `writable`."""
    for folder in writable:
        _mount("--bind", str(folder), str(folder))
    kept = (*KERNELS, *(str(folder.resolve()) for folder in writable))
    for point in _mount_points():
        if not any(point == path or point.startswith(f"{path}/") for path in kept):
            _mount("-o", "remount,bind,ro", point)


def _mount_points() -> list[str]:
    lines = Path("/proc/self/mounts").read_text("utf-8").splitlines()
    points = [line.split()[1].encode().decode("unicode_escape") for line in lines]
    return [point for point in dict.fromkeys(points) if os.path.exists(point)]  # noqa: PTH110


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)
