"""Actors on Trio: processes, links, monitors and servers, in the manner of the BEAM."""
