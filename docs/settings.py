"""Write the reference of all settings, from their models: python docs/settings.py > docs/settings.md"""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from ntkcl.registry import METHODS, SOURCES
from ntkcl.settings.models import Ablations, Backbone, Dataset, Method, Preprocessing, Training
from ntkcl.settings.studies import Study

HEAD = """# Settings

Generated from the models in the code by `python docs/settings.py > docs/settings.md`. A test checks that it is up to
date.

An unknown key is an error that names the nearest valid key. `ntkcl check` validates all studies and what they use. In
the column "default", – marks a required setting, and *none* means that nothing is set.
"""
LOOP = """Under `training` and `preprocessing` in a method's YAML and in variants, and as arguments of `Classifier`. A
backbone or a dataset can have `preprocessing` too."""
NUMBERS = {"number": "number", "integer": "whole number"}
NOTHING = (None, "", [], {})


def reference() -> str:
    """Return the whole reference as Markdown."""
    known: set[str] = set()
    parts = [HEAD]
    for title, place, models in chapters():
        parts += [f"## {title}\n\n{place}\n", *sections(models, known)]
    return "\n".join(parts)


def chapters() -> list[tuple[str, str, dict[str, type[BaseModel]]]]:
    """Return the title of each chapter, the place of its settings, and their models by title."""
    learners = {f"Learner {name}": METHODS.load(name).Settings for name in METHODS.names()}
    sources = {f"Source {name}": SOURCES.load(name).options for name in SOURCES.names()}
    loop = {"Training": Training, "Preprocessing": Preprocessing}
    return [
        ("Training and preprocessing", LOOP, loop),
        (
            "Methods",
            "In `params/methods/NAME.yaml` and `NAME/ablations.yaml`.",
            {"Method": Method, "Ablations": Ablations},
        ),
        ("Learners", "Under `settings` in the YAML of a method with this `learner`.", learners),
        ("Datasets", "In `params/datasets/NAME.yaml`.", {"Dataset": Dataset}),
        ("Sources", "Under `options` in the YAML of a dataset with this `source`.", sources),
        ("Backbones", "The entries of `params/backbones.yaml`.", {"Backbone": Backbone}),
        ("Studies", "In `params/studies/NAME.yaml`.", {"Study": Study}),
    ]


def sections(models: dict[str, type[BaseModel]], known: set[str]) -> Iterator[str]:
    """Yield a section for each model under its title, and for the models that it contains, each only once."""
    for title, model in models.items():
        schema = model.model_json_schema()
        inner = {name: part for name, part in schema.get("$defs", {}).items() if name not in known}
        known |= inner.keys() | {title}
        yield section(title, schema)
        yield from (section(name, part) for name, part in inner.items())


def section(title: str, schema: dict[str, Any]) -> str:
    """Return a heading, the model's description and a table of its settings."""
    rows = [row(name, field, schema.get("required", [])) for name, field in schema.get("properties", {}).items()]
    table = ["", "| setting | type | default | description |", "|---|---|---|---|", *rows] if rows else []
    return "\n".join([f"### {title}\n", schema["description"], *table, ""])


def row(name: str, field: dict[str, Any], required: list[str]) -> str:
    """Return the row of one setting.

    Raises:
        ValueError: it has no description.
    """
    if "description" not in field:
        raise ValueError(f"the setting '{name}' has no description; add one to its Field")
    default = "–" if name in required else default_of(field.get("default"))
    cells = [f"`{name}`", type_of(field), default, field["description"]]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def default_of(value: Any) -> str:
    """Return a default as JSON, or a word for nothing."""
    if isinstance(value, dict):
        value = {key: part for key, part in value.items() if part not in NOTHING}
    return "*none*" if value in NOTHING else f"`{json.dumps(value, ensure_ascii=False)}`"


def type_of(field: dict[str, Any]) -> str:
    """Describe the values that a field of a JSON schema allows."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if options := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(type_of(option) for option in options if option.get("type") != "null")
    if values := field.get("enum") or ([field["const"]] if "const" in field else []):
        return ", ".join(f"`{value}`" for value in values)
    kind = field.get("type")
    if kind in NUMBERS:
        return NUMBERS[kind] + limits(field)
    if kind == "array":
        parts = field.get("prefixItems")
        return f"[{', '.join(map(type_of, parts))}]" if parts else f"list of: {type_of(field['items'])}"
    if kind == "object":
        values = field.get("additionalProperties") or next(iter(field.get("patternProperties", {}).values()), None)
        return f"mapping of names to: {type_of(values)}" if isinstance(values, dict) else "mapping"
    return {"boolean": "true or false", "string": "text", None: "any"}[kind]


def limits(field: dict[str, Any]) -> str:
    """Describe the range of a number."""
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    bounds = [f"{sign} {field[key]:g}" for key, sign in signs.items() if key in field]
    return f" {' and '.join(bounds)}" if bounds else ""


if __name__ == "__main__":
    print(reference(), end="")
