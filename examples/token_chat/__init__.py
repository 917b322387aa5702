"""The chat of the Phoenix Channels guide, with authentication in four steps.

The server signs a token and passes it to the page. The socket verifies the token, and the page joins the room.

Run `npm install --prefix examples/chat` once. Then start the chat with `python -m examples.token_chat`.
"""
