"""Motion sensors and lights: a state machine for each lamp, sensors that poll, and limits of their rates.

`python -m examples.sensors` serves the page. `python -m examples.sensors.device hall` is a sensor in the hall.
"""
