"""What a network is handed over with: programs that need no mobilenas, a card, and pictures to try it on."""
