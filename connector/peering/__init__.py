"""Peers and the way to them.

`model`: terms and counters; `routing`: longest prefix; `remembered`: kept over restarts.
"""
