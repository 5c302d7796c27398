"""The table of methods in the documents."""

import re
import runpy

from tests.settings.test_reference import DOCS


def test_the_table_of_methods_is_up_to_date():
    """But for what takes minutes to measure: errors and passes."""
    table = runpy.run_path(str(DOCS / "methods_table.py"))["table"]
    written = (DOCS / "methods/README.md").read_text(encoding="utf-8")
    number = r"\| (?:[0-9.]+(?:e-[0-9]+)?|–) "
    assert re.sub(number, "| – ", written) == re.sub(number, "| – ", table(is_measured=False)), (
        "run: python docs/methods_table.py > docs/methods/README.md"
    )
