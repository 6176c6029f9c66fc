"""The parts of study_statistics.py."""
