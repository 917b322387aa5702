"""The chat of the Phoenix Channels guide with its four steps of authentication: sign, pass, verify, join.

`python -m examples.token_chat` serves it, after `npm install --prefix examples/chat`.
"""
