"""A newcomer: from a wheel, with one's own videos."""
