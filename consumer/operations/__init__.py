"""What a person or a scheduler starts: the running consumer, and the jobs beside it."""
