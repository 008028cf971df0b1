"""The server of Elyra: Jupyter kernels on a cluster, behind `jupyter elyra`."""

from elyra_launcher import __version__

__all__ = ["__version__"]
