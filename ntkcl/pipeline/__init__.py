"""Parts that Snakemake needs around the commands: fork server, existing results, W&B, cost, set-up."""
