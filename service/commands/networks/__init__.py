"""Commands about single networks: trained alone, exported, asked, judged."""
