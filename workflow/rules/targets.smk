# Parts of the study, each a target: `snakemake dataset_cifar100`, `snakemake table_2`. A single run is the path of its
# metrics.json. A target computes the metrics of its runs; `ntkcl report partial STUDY` writes tables of finished runs.

parts = {f"dataset_{name}": [run for run in runs if run.dataset_name == name] for name in study.datasets}
parts |= {f"backbone_{name}": [run for run in runs if run.backbone_name == name] for name in study.backbones}
parts |= {f"seed_{seed}": [run for run in runs if run.seed == seed] for seed in study.seeds}
for method in {variant.partition("/")[0] for variant in study.table_variants}:
    parts[f"method_{method}"] = [run for run in runs if run.variant.partition("/")[0] == method]
for number, table in study.tables.items():
    parts[f"table_{number}"] = [
        run for run in runs if run.backbone_name == table.backbone and run.dataset_name in table.datasets
    ]

for part, members in parts.items():

    rule:
        name:
            part
        input:
            [run.folder / "metrics.json" for run in members],
        localrule: True
