"""Learning curves of MobileNetV3-class networks: the tables, how they are made, and what is asked of them."""
