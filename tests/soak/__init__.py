"""Long jobs that try to lose something: `make soak`."""
