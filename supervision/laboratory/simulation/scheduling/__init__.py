"""The scheduler of simulated runs: the order of tasks, deviations from it, and the names of tasks."""
