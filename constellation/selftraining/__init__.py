"""Self-training: the supervised warm start, STaR rounds, and the LoRA update they share with the critic."""
