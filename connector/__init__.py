"""An Interledger (ILPv4) connector with the accounting built in."""

__version__ = "0.1.0"
