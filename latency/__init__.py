"""Measuring blocks and networks on a device, and predicting a network's latency from a lookup table."""
