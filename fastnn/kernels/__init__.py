"""What computes: arrays and integers in, arrays out; nothing here knows a layer or a network."""
