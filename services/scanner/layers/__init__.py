"""Layers: what an image's archives hold, found in one pass with bounds on bytes, members and ratio."""
