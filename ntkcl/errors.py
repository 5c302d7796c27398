"""The one kind of error that a person can do something about."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something a person can mend. Its text is one line: what, where, what to do. The command line exits with 1."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint for a misspelt `name`: the nearest valid name, or all of them when none is near."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"valid: {', '.join(valid) or 'none'}"
