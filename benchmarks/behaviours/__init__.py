"""What a model organism of prompting has to show, a file each: `measure(tiny, n) -> rows`."""
