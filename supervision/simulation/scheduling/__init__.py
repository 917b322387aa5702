"""The seeded scheduler and the deviations from its canonical order."""
