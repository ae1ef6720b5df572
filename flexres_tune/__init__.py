"""Sweeps over budgeted ResNets: which configuration is best, and how sure are we?"""

__version__ = "0.1.0"
