"""The version of the package; its own module because parts that the package imports need it."""

__version__ = "0.1.0"
