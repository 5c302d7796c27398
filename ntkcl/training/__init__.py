"""From a run's settings to its states and predictions: the loop, the state files, the jobs."""
