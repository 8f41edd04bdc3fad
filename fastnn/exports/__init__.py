"""Trained networks as source code: C99 without Python, and Python with NumPy alone."""
