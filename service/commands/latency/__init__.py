"""Commands about devices, their latency tables, and how far to trust them."""
