"""The lecture, a file a chapter: `worked()`, its figures by our code; `measure(tiny, quick)`, the same on a real model.

A chapter's docstring is its text in the notebook, which `notebook.py` writes.
"""
