"""What is said above and below the tables."""

from typing import Any

from ntkcl.reporting.tables.model import COLUMNS, PAPER_COLUMNS, Column

PACKAGES = ("torch", "timm", "numpy", "ntkcl")  # the versions that a reader needs to know

JOINT = (
    "{label}: one model trained on all classes at once, an upper bound; at each task it is tested on the classes "
    "seen, with the scores of these classes alone."
)


def notes_of(content: dict[str, Any]) -> str:
    """What a reader must know about all tables: columns, joint rows, missing seeds, where the numbers come from."""
    columns = COLUMNS if content["runs"] else PAPER_COLUMNS  # without runs, the paper's tables stand there alone
    return notes_about(content, columns, content["summaries"], content["provenance"])


def notes_about(
    content: dict[str, Any], columns: list[Column], summaries: list[dict[str, Any]], made: dict[str, Any]
) -> str:
    """The same about a table that has `columns` alone, shows `summaries`, and whose runs were `made` in some way."""
    meanings = dict.fromkeys(column.meaning for column in columns)
    joint = dict.fromkeys(row["label"] for row in summaries if row["protocol"] == "joint")
    notes = [*meanings, *(JOINT.format(label=label) for label in joint)]
    if any(0 < len(row["seeds"]) < len(content["seeds"]) for row in summaries):
        notes.append("n: the number of seeds where some are missing")
    return sentences(*notes, *provenance_note(content | {"provenance": made}))


def provenance_note(content: dict[str, Any]) -> list[str]:
    """The study, and device, versions and commits of what was made."""
    made, notes = content["provenance"], [f"Study {content['study']}: {content['title']}"]
    if made["devices"]:
        versions = [f"{name} {' and '.join(made['versions'][name])}" for name in PACKAGES if name in made["versions"]]
        notes.append(f"Made on {', '.join(made['devices'])} with {', '.join(versions)}; commit {commits_of(made)}")
    return notes


def seeds_note(seeds: list[int]) -> str:
    """What the cells show."""
    names = ", ".join(map(str, seeds))
    return f"mean ± sample standard deviation over seeds {names}" if len(seeds) > 1 else f"seed {names}"


def commits_of(made: dict[str, Any]) -> str:
    """The commits that runs were made with, as short as git shows them."""
    return ", ".join(commit[:12] for commit in made["commits"])


def sentences(*texts: str) -> str:
    """The texts that say anything, each with a full stop."""
    return " ".join(f"{text.rstrip('.')}." for text in texts if text)
