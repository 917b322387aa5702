"""The seams at which loggers, observers, chaos and simulation attach to a runtime."""
