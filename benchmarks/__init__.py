"""What is fast, and how we know: `make bench`, or `make bench ONLY=<group>`."""
