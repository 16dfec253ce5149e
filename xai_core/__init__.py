"""Which attribution method points at the object that a CNN recognised?"""

__version__ = "0.1.0"
