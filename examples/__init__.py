"""Programs that show Ashtree at work. A test runs every program."""
