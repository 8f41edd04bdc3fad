"""The textbook's equations beside those of `reference`, in plain NumPy; EXAMPLES ARE COLUMNS."""
