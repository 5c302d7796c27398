"""The reference of all settings."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_of_settings_is_up_to_date():
    reference = runpy.run_path(str(DOCS / "settings.py"))["reference"]
    written = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert written == reference(), "run: python docs/settings.py > docs/settings.md"
