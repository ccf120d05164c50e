"""What storage cannot mend. `SwarmError`s are for users; these stop the manager part."""


class StorageDamaged(Exception):
    """Bytes at rest are not what was written. The file is to be quarantined, never cut."""


class StorageFailed(Exception):
    """The disk refused (ENOSPC, EIO, a failed fsync). What was not acknowledged is not durable."""
