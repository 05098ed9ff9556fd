"""What settings are made of: their types, a table of them, and what is said of each.

Below `settings.py` and `blueprint_settings.py`, which define the settings themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, le=86_400 * 365)]
Money = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Network = Annotated[
    IPv4Network | IPv6Network, BeforeValidator(lambda text: ip_network(text, strict=False))
]


def matching(pattern: str, problem: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(problem)
        return text

    return AfterValidator(check)


Target = Annotated[str, matching(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", "must be module:name")]


@dataclass(frozen=True, slots=True)
class Setting:
    """What stands beside a setting's type: its meaning, for the documents, and where it counts.

    `reload`: a SIGHUP changes it. `sets`: the field of a layer's record of options that it sets.
    """

    meaning: str
    reload: bool = False
    sets: tuple[type, str] | None = None


def setting_of(field: FieldInfo) -> Setting | None:
    """Return what is said of a field, None where it is a table or of a blueprint."""
    return next((each for each in field.metadata if isinstance(each, Setting)), None)


class Table(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)
