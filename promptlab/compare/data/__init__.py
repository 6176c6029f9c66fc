"""From a file to examples: readers, splits, label budgets, and what is wrong with the data."""
