"""What trainings left: run cards, and finished runs that tables read."""
