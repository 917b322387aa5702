"""Breaking news: a publisher in another program, and readers who choose sections.

`python -m examples.news` serves the page, and `python -m examples.news.publish sport "Ash wins the cup"` publishes a
story. Both programs need the same secret in the variable `SECRET_KEY_BASE`.
"""
