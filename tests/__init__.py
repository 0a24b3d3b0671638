"""Tests, room by room as the packages."""
