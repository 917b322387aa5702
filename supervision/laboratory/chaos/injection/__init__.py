"""The injector, which carries out a fault plan in one or more runtimes."""
