"""Live reload of CSS: when a style sheet of a folder changes, open pages take the new one without a reload.

`python -m examples.live_css` serves a page to try it. `python -m examples.live_css FOLDER` serves your own folder. Its
pages need one line: `<script type="module" src="/live/live.js"></script>`.
"""
