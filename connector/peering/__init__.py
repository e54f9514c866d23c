"""Peers and routes.

`model`: terms and counters; `routing`: longest prefix; `remembered`: kept over restarts.
"""
