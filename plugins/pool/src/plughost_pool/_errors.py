"""What borrowers are told.

    PoolError                Base of what a pool raises by itself.
      PoolTimeoutError       Raised when no resource came free in time; a `TimeoutError` too.
      PoolFullError          Raised when too many borrowers wait already.
      PoolClosedError        Raised when the pool is closed.

What the factory raises reaches the borrower as it is.
"""

from __future__ import annotations


class PoolError(Exception):
    """Base of what a pool raises by itself."""


class PoolTimeoutError(PoolError, TimeoutError):
    """Raised when no resource came free in time. The message names who borrowed longest, and where."""


class PoolFullError(PoolError):
    """Raised when too many borrowers wait already."""


class PoolClosedError(PoolError):
    """Raised when the pool is closed, or was closed while the borrower waited."""
