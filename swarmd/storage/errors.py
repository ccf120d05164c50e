"""What storage cannot mend. `SwarmError`s are for users; these stop the manager part."""

from __future__ import annotations

import errno
from typing import Final


class StorageDamaged(Exception):
    """Bytes at rest are not what was written. The file is to be quarantined, never cut."""


class StorageFailed(Exception):
    """The disk refused (EIO, a failed fsync). What was not acknowledged is not durable."""


class StorageFull(StorageFailed):
    """The disk refused for want of space (ENOSPC, EDQUOT): whoever makes room mends it."""


_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def refused(message: str, error: OSError) -> StorageFailed:
    """What a refusal of the operating system means here."""
    return StorageFull(message) if error.errno in _NO_SPACE else StorageFailed(message)
