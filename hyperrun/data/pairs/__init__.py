"""Sentences and their translations: the sets, the pieces of words, what is read into them, and how they are fed."""
