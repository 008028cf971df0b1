"""Kernels on other hosts: who they are, how they are reached, and what runs there."""
