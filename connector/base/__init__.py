"""Foundations without knowledge of the protocol: errors, clock, log, files, SQLite, shared bounds."""
