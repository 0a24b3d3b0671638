"""From picture files to prepared data sets and their splits."""
