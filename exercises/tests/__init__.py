"""What holds of the exercises: their checks, handing out, marking."""
