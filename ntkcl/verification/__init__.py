"""Replays of trajectories that a method's official code computed; a module for each method."""
