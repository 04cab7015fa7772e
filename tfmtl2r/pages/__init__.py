"""HTML pages: reports that compare many runs."""
