"""Training networks, inheriting their weights, and what a result on a finite number of images says."""
