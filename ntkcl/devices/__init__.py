"""GPUs, processes of one run, and random states."""
