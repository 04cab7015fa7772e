"""Pages: reports that compare many runs."""
