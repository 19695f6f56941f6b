"""What recurrent networks do along a sequence: activations, gates, and how their weights change."""
