"""What importing the package needs, in a process of its own."""

import subprocess
import sys

import pytest

CODE = """
import sys
sys.modules.update(dict.fromkeys(("snakemake", "dvc", "wandb")))
import ntkcl
assert "torch" not in sys.modules
ntkcl.Classifier
assert "torch" in sys.modules
import ntkcl.commands.cli, ntkcl.verification.ntk_cl, ntkcl.data.prepared.prepare
import ntkcl.backbones.pretraining, ntkcl.pipeline.wandb_log
import ntkcl.reporting.tables.write, ntkcl.reporting.figures
from ntkcl.registry import METHODS
[METHODS.load(name) for name in METHODS.names()]
"""


@pytest.mark.slow
def test_the_package_imports_torch_late_and_none_of_the_pipelines_tools():
    """A GPU machine may have torch and timm, but not Snakemake, DVC or W&B."""
    subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True)
