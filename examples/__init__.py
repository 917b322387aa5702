"""Programs that show Ashtree at work. Every one of them is run by a test."""
