"""What maintainers run: python -m tools.course.… on the notebooks, tools.models.… on the files."""
