"""The interfaces through which loggers, observers, chaos and simulation attach to a runtime."""
