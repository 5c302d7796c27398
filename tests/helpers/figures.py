"""What a test sees of a figure or a run."""

import matplotlib


def texts(figure):
    """All texts of a figure."""
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def looks(axes):
    return {(line.get_marker(), line.get_linestyle()) for line in axes.lines}


def names_of(run):
    return run["run"]["dataset"], run["run"]["variant"]
