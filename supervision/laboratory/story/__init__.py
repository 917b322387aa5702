"""The story of a recording as text, diagram and picture, and its command. Import from `supervision.story`."""
