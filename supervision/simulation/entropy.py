"""The streams of random numbers of a world: those of `supervision.recording.entropy`, which live experiments use too."""

from supervision.recording.entropy import Streams, derive

__all__ = ["Streams", "derive"]
