"""fastnn's estimators compared with scikit-learn's: the same calls, each in its own process."""
