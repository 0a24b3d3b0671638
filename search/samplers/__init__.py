"""Who proposes networks."""
