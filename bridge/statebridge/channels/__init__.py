"""Channels: what a condition reads, maps and writes, one file for each kind of channel.

A channel is registered in `channel.CHANNELS`, a source (whose content is written) in
`statebridge.experiment.sources.SOURCES`; a new one is one new file. All of this room but
`sources/` needs torch.
"""
