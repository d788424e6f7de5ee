"""The package behind a notebook course on class-conditional diffusion with CIFAR-10."""

__version__ = "0.4.0"


def __getattr__(name: str):
    """`from cdiff_helpers import load_reference`, without importing torch before it is wanted."""
    if name == "load_reference":
        from cdiff_helpers.reference import load_reference

        return load_reference
    raise AttributeError(f"module 'cdiff_helpers' has no attribute {name!r}")
