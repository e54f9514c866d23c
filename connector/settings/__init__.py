"""Settings of a node.

`model` reads environment, YAML and defaults; `overlay` adds what was changed while the node ran.
"""
