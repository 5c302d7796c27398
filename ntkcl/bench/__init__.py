"""How fast learners train and predict, against what the hardware can do."""
