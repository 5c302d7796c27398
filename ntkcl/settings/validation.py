"""Validation of settings, with errors of one line."""

import operator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ntkcl.errors import UserError, nearest

ModelType = TypeVar("ModelType", bound=BaseModel)


def validated(model: type[ModelType], content: Any, where: str) -> ModelType:
    """Validate `content` and return it as a `model`.

    Args:
        model: the model.
        content: settings in plain types, as YAML gives them.
        where: file or place of the settings, for the error.

    Raises:
        UserError: `content` does not fit the model. The message has the first problem, and for an unknown key the
            nearest valid one.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        # a misspelled key is often also missing under its correct name: report the misspelled one
        first = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = nearest(str(first["loc"][-1]), _fields_at(model, first["loc"][:-1]))
            raise UserError(f"{where}: unknown key '{place}'; {hint}") from error
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(f"{where}: {place + ': ' if place else ''}{message}") from error


def whole_number(name: str, value: Any, least: int) -> int:
    """Return `value` as Python's int, also from numpy's.

    Raises:
        UserError: it is no whole number, or less than `least`.
    """
    try:
        number = operator.index(value)
    except TypeError as error:
        raise UserError(f"{name} is {value!r}; give a whole number") from error
    if not least <= number < 2**63:
        raise UserError(f"{name} is {number}; give a number from {least} on")
    return number


def _fields_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Return the valid keys of the model at `place` inside `model`."""
    for part, tag in zip(place, (*place, None)[1:], strict=True):
        field = model.model_fields.get(str(part))
        if field is None:  # a key of a mapping such as `datasets`, or the tag of a union: keep `model`
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        models = [one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)]
        tagged = [one for one in models if "kind" in one.model_fields and tag in _values_of(one.model_fields["kind"])]
        model = next(iter(tagged or models), model)
    return list(model.model_fields)


def _values_of(field: FieldInfo) -> tuple[Any, ...]:
    """Return the values of a literal."""
    return getattr(field.annotation, "__args__", ())
