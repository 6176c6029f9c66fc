"""promptlab: for my task, should I prompt, reason, optimise the prompt, or fine-tune? Answered with evidence."""
