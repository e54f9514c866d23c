"""The switch for conditional payments.

`rules` say what may come in, `terms` what is offered onward, `receiver` what is for this node,
`switch` tells the story of one Prepare, `driver` carries stories out.
"""
