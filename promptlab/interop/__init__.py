"""Other people's prompt programs and optimisers on our backends, metered by our ledger: dspy, gepa, textgrad.

Each needs its package, and imports it when it is itself imported: `from promptlab.interop.dspy import lm`.
"""
