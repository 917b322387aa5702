"""The chat of the Phoenix Channels guide, with a button that crashes it.

`python -m examples.chat` serves it. `make run` first installs its dependencies.
"""
