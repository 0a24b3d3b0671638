"""What earlier searches have trained: taken over, or learnt from."""
