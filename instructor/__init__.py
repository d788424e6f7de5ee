"""What only instructors hold: hidden checks and known answers. It is not installed."""
