"""Names of variants that spell the settings that they change, such as `ntk_cl/first_lr_0.05-lr_0.005`.

The name alone determines the settings: KEY_VALUE pairs in alphabetical order, joined by hyphens. Grids and sweeps need
no other definition.
"""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import product

from ntkcl.errors import UserError, nearest
from ntkcl.settings.models import Model

Value = bool | int | float | str

VARIANT_PATTERN = r"[a-z0-9_]+(/[a-z0-9_.-]+)?"
"""Variants are folder names: METHOD, or METHOD/NAME."""


def grid_names(values: Mapping[str, Sequence[Value]]) -> list[str]:
    """Return the names of all combinations of `values`; the last key varies fastest."""
    return [
        "-".join(sorted(f"{key}_{format_value(value)}" for key, value in zip(values, combination, strict=True)))
        for combination in product(*values.values())
    ]


def settings_in_name(name: str, models: Mapping[str, type[Model]], where: str) -> dict[str, dict[str, Value]]:
    """Return the settings that a variant's `name` spells.

    Args:
        name: the part of the variant after the method, such as "first_lr_0.05-lr_0.005".
        models: models of the settings, by section ("settings", "training", "preprocessing").
        where: description of the variant, for errors.

    Returns:
        The settings, by section.

    Raises:
        UserError: a part of the name is not a setting with its value, or a value is not written in its short form.
    """
    keys = {key: section for section, model in models.items() for key in model.model_fields}
    found: dict[str, dict[str, Value]] = {section: {} for section in models}
    for part in parts_of(name):
        candidates = [key for key in keys if part.startswith(f"{key}_") and part != f"{key}_"]
        if not candidates:
            raise UserError(f"{where}: '{part}' is neither a named variant nor SETTING_VALUE; {nearest(part, keys)}")
        key = max(candidates, key=len)
        value = _parse(part.removeprefix(f"{key}_"))
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}: '{part}' is not finite; give a number")
        if (short := f"{key}_{format_value(value)}") != part:
            raise UserError(f"{where}: write '{short}' instead of '{part}'")
        if key in found[keys[key]]:
            raise UserError(f"{where}: {key} has two values; give one")
        found[keys[key]][key] = value
    if (ordered := "-".join(sorted(parts_of(name)))) != name:
        raise UserError(f"{where}: write '{ordered}' instead of '{name}', so that one setting has one name")
    return found


def check_spelling(spelled: Mapping[str, Value], settings: Model, where: str) -> None:
    """Make sure that the spelled values are those of the validated `settings`, so that one setting has one name.

    Raises:
        UserError: validation changed a value, such as true to 1.
    """
    for key, value in spelled.items():
        if (valid := format_value(getattr(settings, key))) != format_value(value):
            raise UserError(f"{where}: write '{key}_{valid}' instead of '{key}_{format_value(value)}'")


def parts_of(name: str) -> list[str]:
    """Split a spelled name into its SETTING_VALUE parts; a hyphen before a digit is a minus."""
    return re.split(r"-(?=[a-z])", name)


def format_value(value: Value) -> str:
    """Return the short form of a value in a name: true, 16, 0.05, sum."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return (f"{value:g}" if float(f"{value:g}") == value else repr(value)).replace("e+", "e")
    return str(value)


def _parse(text: str) -> Value:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
