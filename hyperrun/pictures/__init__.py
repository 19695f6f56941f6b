"""What all pictures have in common."""
