"""A game for several players. A supervised process keeps the game of each room, and outlives the players' channels.

Run `npm install --prefix examples/chat` once. Then start the game with `python -m examples.game`.
"""
