"""Experiments about supervision, each in a file of its own. docs/study has a page for each of them.

    $ python -m examples.study.crash_is_contained                  # the figures
    $ python -m examples.study.crash_is_contained --svg out.svg    # and the picture

They run on a virtual clock: an hour takes a moment, and every run has the same figures.
"""
