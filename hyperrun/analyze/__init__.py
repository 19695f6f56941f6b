"""The paper's figures from trained models."""
