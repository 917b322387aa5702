"""The viewer of recorded runs: their history, their figures, and one HTML page for all of them."""
