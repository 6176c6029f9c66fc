"""Rules of puzzles: what a legal step is, what can be reached, and the words a puzzle is told in. No model here."""
