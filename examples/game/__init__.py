"""A game for several players. Each room has a supervised process with the game, which outlives the players' channels.

`python -m examples.game` serves it, after `npm install --prefix examples/chat`.
"""
