"""Pen strokes: the sets, what they are read into, and how they are fed."""
