"""An import path of 1.3.1 for the lock."""

from .lock import CrossPlatLock, LockError

__all__ = ["CrossPlatLock", "LockError"]
