"""How good a table is, where a network's time goes, and how two devices differ."""
