"""What a client hears when the disk fails an upload while it arrives: it is full, or somebody deleted the folder.

Programs that clean temporary folders delete it while the server runs. Depends on refusals only.
"""

from __future__ import annotations

import errno

from blip_space.apps.http.refusals import Refusal

DISK_FULL = Refusal(507, "disk_full", "The server has no disk space for another image at the moment. Try again later.")
DELETED = Refusal(
    503,
    "not_uploaded",
    "The server's folder of uploads was deleted while the files arrived. Send them again.",
    {"Retry-After": "1"},
)
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def refusal_of(error: BaseException) -> Refusal | None:
    """The refusal for an error of the disk; None for any other error."""
    if isinstance(error, FileNotFoundError):
        return DELETED
    return DISK_FULL if isinstance(error, OSError) and error.errno in NO_SPACE else None
