"""A game for several players. An entity keeps the game of each room, and outlives the players' channels.

Run `npm install --prefix examples/chat` once. Then start the game with `python -m examples.game`.
"""
