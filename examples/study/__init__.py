"""Experiments about supervision, one in each file. docs/study has a page for each experiment.

    $ python -m examples.study.crash_is_contained                  # the figures
    $ python -m examples.study.crash_is_contained --svg out.svg    # and the picture

The experiments run on a virtual clock: an hour takes a moment, and every run has the same figures.
"""
