"""Replays of trajectories that a method's official code computed, one module a method."""
