"""NetAdapt: the walk from the best network of the block-level search to the target."""
