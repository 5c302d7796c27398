"""Names for settings: short hashes of their values."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel


def digest_of(*parts: Any) -> str:
    """Twelve hexadecimal digits that name these settings.

    Values equal to their defaults are left out of models: a new setting whose default keeps the old behaviour
    must not make weeks of finished runs look outdated.
    """
    plain = [p.model_dump(mode="json", exclude_defaults=True) if isinstance(p, BaseModel) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]
