"""The files under `params/`, read and validated."""

import codecs
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ntkcl.errors import UserError, nearest
from ntkcl.settings.models import Ablations, Backbone, Dataset, Method
from ntkcl.settings.studies import Study
from ntkcl.settings.validation import validated

PARAMS = Path("params")


def all_names(kind: str) -> list[str]:
    """Return the names of all studies, datasets or methods (`kind`: the folder below `params/`), sorted.

    Raises:
        UserError: the current folder is no project.
    """
    if not (PARAMS / kind).is_dir():
        raise UserError(f"no {PARAMS / kind}/ here; change to a project folder, such as a clone of the repository")
    return sorted(path.stem for path in (PARAMS / kind).glob("*.yaml"))


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice; with PyYAML alone, the last one counts."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping, and look at its keys."""
        node, known = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
            if name in known:
                raise ValueError(f"the key '{key.value}' stands twice (line {key.start_mark.line + 1})")
            known.add(name)
        return node


def _read_yaml(path: Path, kind: str) -> Any:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        names = [file.stem for file in path.parent.glob("*.yaml")]
        raise UserError(f"unknown {kind} '{path.stem}': no {path}; {nearest(path.stem, names)}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); correct it") from error
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return yaml.load(content.decode(encoding), _Loader) or {}
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}, is not in UTF-8; save the file in UTF-8") from error
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}; correct it") from error


def read_backbones() -> dict[str, Any]:
    """Return the entries of `params/backbones.yaml` in plain types, by name; they are not validated."""
    content = _read_yaml(PARAMS / "backbones.yaml", "file")
    if not isinstance(content, dict):
        raise UserError(f"{PARAMS / 'backbones.yaml'} has no backbones by name; correct it")
    return content


@cache
def load_study(name: str) -> Study:
    """Read the study `name`."""
    path = PARAMS / "studies" / f"{name}.yaml"
    return validated(Study, _read_yaml(path, "study"), str(path))


@cache
def load_dataset(name: str) -> Dataset:
    """Read the dataset `name`."""
    path = PARAMS / "datasets" / f"{name}.yaml"
    return validated(Dataset, _read_yaml(path, "dataset"), str(path))


@cache
def load_backbone(name: str) -> Backbone:
    """Read the backbone `name`."""
    path, backbones = PARAMS / "backbones.yaml", read_backbones()
    if name not in backbones:
        raise UserError(f"unknown backbone '{name}' (not in {path}); {nearest(name, backbones)}")
    return validated(Backbone, backbones[name], f"{path}, {name}")


@cache
def load_method(name: str) -> Method:
    """Read the method `name`, with the variants of `NAME/ablations.yaml` if there are any."""
    path = PARAMS / "methods" / f"{name}.yaml"
    method = validated(Method, _read_yaml(path, "method"), str(path))
    if (ablations := PARAMS / "methods" / name / "ablations.yaml").exists():
        more = validated(Ablations, {"variants": _read_yaml(ablations, "file")}, str(ablations)).variants
        if twice := sorted(more.keys() & method.variants.keys()):
            raise UserError(f"{ablations}: variant '{twice[0]}' is in {path} too; remove one of them")
        method = method.model_copy(update={"variants": method.variants | more})
    known = {file.stem for file in (PARAMS / "datasets").glob("*.yaml")}
    for dataset in method.datasets.keys() - known:
        raise UserError(f"{path}: unknown dataset 'datasets.{dataset}'; {nearest(dataset, known)}")
    return method
