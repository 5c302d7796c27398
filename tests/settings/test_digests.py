"""Finished runs stay valid: the digests of the shipped studies change on purpose only."""

import json

from tests.helpers.study_digests import STORED, study_digests


def test_the_digests_of_the_shipped_studies_are_the_stored_ones(project):
    stored, present = json.loads(STORED.read_text()), study_digests()
    changed = [name for name in sorted(stored | present) if stored.get(name) != present.get(name)]
    assert not changed, (
        f"other digests: {', '.join(changed)}. If runs of these studies have other settings now, all finished runs "
        "with the old ones are outdated, and will be computed again everywhere. Undo it unless it is meant: a new "
        "setting whose default is the old behavior changes no digest. If it is meant, or if runs were only added or "
        "removed, store the digests with `python -m tests.helpers.study_digests`, and say so in CHANGELOG.md."
    )
