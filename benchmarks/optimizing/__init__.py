"""What optimizers.py measures: racing on simulated tables, what is accepted, prompts for the bundled model."""
