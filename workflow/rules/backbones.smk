origins = read_backbones()
given = [name for name, entry in origins.items() if {"weights", "shipped"} & entry.keys()]  # published, in the package
pretrained = [name for name in origins if name not in given]
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
        backbone="|".join(pretrained) or NONE,
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
        "exec > {log} 2>&1; {HEADING}; ntkcl backbone {wildcards.backbone} --device {config[device]} --threads {threads}"


rule fetch_backbone:
    output:
        "backbones/{backbone}.safetensors",
    log:
        "backbones/{backbone}.log",
    benchmark:
        "backbones/{backbone}.benchmark.tsv"
    wildcard_constraints:
        backbone="|".join(given) or NONE,
    params:
        settings=lambda wildcards: backbone_digest(wildcards.backbone),
    message:
        "backbone: {wildcards.backbone} (progress in {log})"
    shell:
        "exec > {log} 2>&1; {HEADING}; ntkcl backbone {wildcards.backbone}"
