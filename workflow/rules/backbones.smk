rule pretrain_backbone:
    input:
        lambda wildcards: f"data/{load_backbone(wildcards.backbone).pretraining.dataset}/manifest.csv",
    output:
        "backbones/{backbone}.safetensors",
    log:
        "backbones/{backbone}.log",
    benchmark:
        "backbones/{backbone}.benchmark.tsv"
    params:
        settings=lambda wildcards: backbone_digest(wildcards.backbone),
    message:
        "backbone: {wildcards.backbone} (takes minutes; progress in {log})"
    shell:
        "ntkcl backbone {wildcards.backbone} --device {config[device]} > {log} 2>&1"
