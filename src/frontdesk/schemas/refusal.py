"""What clients are answered whose request cannot be done."""

from __future__ import annotations

import msgspec


class Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """Every error: a code to act on, a sentence to read, and facts where there are some."""

    error: str
    message: str
    retry_after: int | None = None
    """Whole seconds, as in the header `Retry-After`."""
    reason: str | None = None
    scope: str | None = None
    limit: int | float | None = None
