"""Problems whose answers are known, for comparing samplers: what is proposed is looked up instead of trained."""
