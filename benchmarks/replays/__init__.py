"""Recorded outputs of the models the papers used, through our strategies, a file each: `measure(quick) -> rows`."""
