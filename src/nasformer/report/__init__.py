"""What there is to see: `gather` turns runs into small values, the other files draw them."""
