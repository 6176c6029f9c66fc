"""Backends around backends: what they do is done for every model, and no strategy knows."""
