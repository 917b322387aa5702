"""The one reader of traces: which process ended because of what, what was lost, and what came back."""
