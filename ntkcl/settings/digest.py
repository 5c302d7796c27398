"""Digests: short hashes that identify settings."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel


def digest_of(*parts: Any) -> str:
    """Return twelve hexadecimal digits that identify these settings.

    Values that equal their defaults are left out of models: a new setting whose default keeps the old behavior must not
    outdate weeks of finished runs.
    """
    plain = [p.model_dump(mode="json", exclude_defaults=True) if isinstance(p, BaseModel) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]
