"""From a run's settings to its states and predictions: loop, optimizers, state files, evaluation."""
