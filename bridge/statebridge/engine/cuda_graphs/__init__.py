"""Decoding in steps of static shapes, which CUDA graphs can repeat without Python.

Unproven: this code has not run on a GPU. On a CPU its tokens equal those of the dynamic step and
of the oracle, with a recorder of operations in the place of a graph. Nothing imports this
package but `statebridge.engine.decoding.steps`, and only when such a step is chosen.

`decode` decodes a group of lanes, `step` is one step of it, `buffers` are what the step works on,
`shapes` are the sizes that steps may have, and `hold` keeps buffers and graphs between groups.
"""
