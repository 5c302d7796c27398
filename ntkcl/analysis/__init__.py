"""The kernel's theory on runs: what a learner's states say about its gaps and its forgetting."""
