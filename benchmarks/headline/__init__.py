"""The headline: what the default job finds, beside the reference at other widths."""
