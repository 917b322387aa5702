"""Failed runs told in the words of their processes."""
