"""fastnn's estimators beside scikit-learn's: the same calls, each in a process of its own."""
