"""What a study costs, before it starts."""
