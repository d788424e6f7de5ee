"""How each bundled file was made: the subset, the judge, the reference."""
