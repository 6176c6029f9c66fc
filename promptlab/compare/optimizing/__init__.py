"""A prompt optimised from a file: what is read and planned, the run, one look at the test, and the report."""
