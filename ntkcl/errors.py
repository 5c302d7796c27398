"""Errors that the user can fix."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An error that the user can fix. Its text is one line: what, where, what to do. The command line exits with 1.

    Line breaks, which names can have, become blanks.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(" ".join(text.splitlines()))


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a hint for a misspelled `name`: the nearest valid name, or all valid names if none is near."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"valid: {', '.join(valid) or 'none'}"
