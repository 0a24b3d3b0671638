"""The race: networks are measured, trained for as long as they are among the best, and the best ones to the end."""
