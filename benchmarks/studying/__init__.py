"""What the two studies of prompting and fine-tuning share: held-out rules as files, running, projecting, recording."""
