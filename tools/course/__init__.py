"""What maintainers run on the notebooks: weave, execute, publish, site, alone."""
