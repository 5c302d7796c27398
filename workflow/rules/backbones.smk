import yaml

origins = yaml.safe_load(Path("params/backbones.yaml").read_text())
published = [name for name, entry in origins.items() if "weights" in entry]
own = [name for name in origins if name not in published]
NONE = "(?!)"


rule pretrain_backbone:
    input:
        lambda wildcards: f"data/{load_backbone(wildcards.backbone).pretraining.dataset}/manifest.csv",
    output:
        "backbones/{backbone}.safetensors",
    log:
        "backbones/{backbone}.log",
    benchmark:
        "backbones/{backbone}.benchmark.tsv"
    wildcard_constraints:
        backbone="|".join(own) or NONE,
    threads: 1
    resources:
        gpu=int(uses_gpu),
        mem_mb=4000,
        runtime=120,
    params:
        settings=lambda wildcards: backbone_digest(wildcards.backbone),
    message:
        "backbone: {wildcards.backbone} (takes minutes; progress in {log})"
    shell:
        "ntkcl backbone {wildcards.backbone} --device {config[device]} --threads {threads} > {log} 2>&1"


rule fetch_backbone:
    output:
        "backbones/{backbone}.safetensors",
    log:
        "backbones/{backbone}.log",
    benchmark:
        "backbones/{backbone}.benchmark.tsv"
    wildcard_constraints:
        backbone="|".join(published) or NONE,
    params:
        settings=lambda wildcards: backbone_digest(wildcards.backbone),
    message:
        "fetch: {wildcards.backbone} (progress in {log})"
    shell:
        "ntkcl backbone {wildcards.backbone} > {log} 2>&1"
