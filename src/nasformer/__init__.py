"""nasformer finds a better Transformer for your data and your budget."""

__version__ = "0.1.0"
