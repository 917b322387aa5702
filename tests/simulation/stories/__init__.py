"""Nine small applications, each with a bug that applications typically have, and the story of the bug.

A story is in the file of the same name with the ending `.txt`. A reader must find the cause from the story alone.
"""
