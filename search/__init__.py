"""Trials, rewards, samplers, NetAdapt and the record of them all."""
