"""Settings of a node.

`model` says which settings there are, `types` what they may be; `load` reads them; `overlay` adds what
was changed while the node ran; `describe` lists what is in effect.
"""
