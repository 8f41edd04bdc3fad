"""Predictions: which kernels serve a network, by which weights, and what is kept between calls."""
