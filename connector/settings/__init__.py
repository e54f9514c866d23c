"""Settings of a node.

`model` defines the settings, `types` their values; `load` reads them; `overlay` applies the changes
made while the node ran; `describe` lists the settings in effect.
"""
