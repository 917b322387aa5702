"""A Starlette application with pages and a mounted endpoint, which Hypercorn serves on one port."""
