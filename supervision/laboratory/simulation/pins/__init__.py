"""The isolation of a simulated run: pins for hidden entropy, and a fence around the real world."""
