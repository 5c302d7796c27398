"""The commands of `ntkcl`, by what they are about. Each imports what it needs itself: torch takes seconds."""
