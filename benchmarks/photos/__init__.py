"""Few photos: what searches from published weights find, beside scaling and training from scratch."""
