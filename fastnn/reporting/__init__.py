"""What a network says of itself and of its fit: words, tables and pictures."""
