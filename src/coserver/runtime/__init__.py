"""What runs: each file one thing that has a life of its own."""
