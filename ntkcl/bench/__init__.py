"""Speed and memory of learners, compared with the limits of the hardware."""
