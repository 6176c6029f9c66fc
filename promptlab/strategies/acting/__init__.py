"""The parts of ReAct: its two forms, how actions are read and approved, and what keeps a run in bounds."""
