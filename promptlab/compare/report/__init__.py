"""The report: one self-contained page made of a run's results and rows."""

from promptlab.compare.report.page import write_report

__all__ = ["write_report"]
