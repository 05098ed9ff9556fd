"""Which gateway, and by which key: from what is said, or else from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

DEFAULT_URL = "http://127.0.0.1:4000"
URL_VARIABLE, KEY_VARIABLE = "FRONTDESK_URL", "FRONTDESK_KEY"
INSECURE_VARIABLE = "FRONTDESK_INSECURE"
MAX_KEY_CHARACTERS = 16 * 1024


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """A gateway's address and the key that is shown to it. The key is in no repr."""

    url: str
    key: str | None = field(repr=False)
    loopback: bool

    @classmethod
    def of(
        cls,
        url: str | None,
        *,
        key: str | None,
        key_file: str | os.PathLike[str] | None,
        insecure: bool,
    ) -> GatewayAddress:
        """Return where to, by what; `InvalidArgument` for what cannot be, or should not.

        A key goes over plain `http` to this machine only, unless `insecure`: on the way to another
        one everybody could read it.
        """
        raise NotImplementedError
