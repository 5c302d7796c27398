"""Digests of the shipped studies. `python -m tests.helpers.study_digests` stores the present ones.

Run it where settings are changed on purpose, and say so in CHANGELOG.md: runs that are finished have the old digests.
"""

import hashlib
import json

from ntkcl.runs import runs_of
from ntkcl.settings.files import PARAMS, load_study
from tests.helpers.projects import REPOSITORY

STORED = REPOSITORY / "tests/settings/study_digests.json"


def study_digests() -> dict[str, dict[str, int | str]]:
    """The number of runs of each study in `params/studies/`, and one digest over theirs, whatever their order."""
    digests = {}
    for path in sorted((PARAMS / "studies").glob("*.yaml")):
        lines = sorted(f"{run.name} {run.digest}" for run in runs_of(load_study(path.stem)))
        digests[path.stem] = {"runs": len(lines), "digest": hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]}
    return digests


if __name__ == "__main__":
    STORED.write_text(json.dumps(study_digests(), indent=2) + "\n", encoding="utf-8")
