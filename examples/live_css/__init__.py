"""Live reload of CSS: when a style sheet in a folder changes, open pages show the new style without a reload.

To try it, run `python -m examples.live_css`. To serve your own folder, run `python -m examples.live_css FOLDER`, and
add this line to your pages: `<script type="module" src="/live/live.js"></script>`.
"""
