"""Nine small applications. Each has a typical bug and the story of that bug.

The story of `NAME.py` is in `NAME.txt`. A reader must find the cause from the story alone.
"""
