"""The HyperLSTM's speed: a whole sequence as one autograd function, its steps compiled."""
