"""Programs that bring a trained network to where it is used, and say what it costs there."""
