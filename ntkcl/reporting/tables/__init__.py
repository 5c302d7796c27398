"""Tables of a study: for LaTeX, Markdown, browser and terminal."""
