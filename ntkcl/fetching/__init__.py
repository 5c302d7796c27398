"""Downloads that resume, are verified and recorded."""
