"""Motion sensors and lights: a state machine for each lamp, and sensors that use long polling and have a rate limit.

`python -m examples.sensors` serves the page. `python -m examples.sensors.device hall` runs a sensor in the hall.
"""
