"""Results for other machines: a trained state with a card, and a finished study in one folder."""
