"""The injector, which carries out a plan of faults in one or more runtimes."""
