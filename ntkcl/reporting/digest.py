"""Digest of the settings that tables and figures show."""

from ntkcl.reporting.expected_numbers import expected_ranges
from ntkcl.runs import variant_label
from ntkcl.settings.digest import digest_of
from ntkcl.settings.files import PARAMS, load_backbone, load_dataset, load_method
from ntkcl.settings.studies import Study


def report_digest(study: Study) -> str:
    """Digest of titles, labels, notes and published numbers; if it changes, the report is written again."""
    methods = [(load_method(variant.partition("/")[0]), variant) for variant in study.every_variant]
    datasets = [load_dataset(name) for name in study.datasets]
    published = PARAMS / study.published
    return digest_of(
        study,
        [[variant_label(method, variant), method.protocol] for method, variant in methods],
        [[dataset.label, dataset.note, dataset.task_sizes] for dataset in datasets],
        [load_backbone(name).label for name in study.backbones],
        *[each.model_dump() for each in expected_ranges(study)],
        *([published.read_text()] if study.published and published.is_file() else []),
    )
