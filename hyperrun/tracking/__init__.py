"""What a run leaves behind: its folder, metrics.jsonl, summary.json, W&B, and what the terminal shows."""
