"""JSON files checked against a model when they are read."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ntkcl.errors import UserError
from ntkcl.settings.models import Model

ModelType = TypeVar("ModelType", bound=Model)


def parsed(model: type[ModelType], content: Any, path: Path, remedy: str) -> ModelType:
    """Return `content`, which was read from `path`, as a `model`.

    Args:
        remedy: the end of the message: the action that replaces the file.

    Raises:
        UserError: the content does not fit, for example because an earlier version wrote it.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "content"
        raise UserError(f"{path} does not fit this version of ntkcl ({place}: {first['msg']}); {remedy}") from error
