"""fastnn compared with other libraries: the same work, each in a process of its own."""
