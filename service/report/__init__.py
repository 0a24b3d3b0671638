"""The HTML pages of reports, and their figures."""
