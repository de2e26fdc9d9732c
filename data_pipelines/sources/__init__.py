"""Where videos and what is said of them come from; which of them are bad."""
