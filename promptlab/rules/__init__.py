"""Rules of puzzles: what a legal step is, what can be reached, and the words in which a puzzle is told. No model here."""
